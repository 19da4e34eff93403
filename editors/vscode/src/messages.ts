/** Messages to the user, with buttons that run commands. */
import { commands, window, type Command } from "vscode";

export const SHOW_LOG: Command = { title: "Show Log", command: "inpaint.showLog" };
export const RESTART: Command = { title: "Restart", command: "inpaint.restart" };
export const CHOOSE_MODEL: Command = { title: "Choose Model", command: "inpaint.chooseModel" };
export const INSTALL: Command = { title: "Create Environment", command: "inpaint.install" };
export const CHOOSE_PYTHON = settingsButton("Choose Python", "inpaint.python");
export const OPEN_SETTINGS = settingsButton("Open Settings", "@ext:inpaint.inpaint");

export function settingsButton(title: string, query: string): Command {
  return { title, command: "workbench.action.openSettings", arguments: [query] };
}

type Show = (message: string, ...buttons: Command[]) => Thenable<Command | undefined>;

/** Show a message; it does not wait for the user. */
export function say(message: string, show: Show = window.showErrorMessage, ...buttons: Command[]): void {
  show(message, ...buttons).then((chosen) => {
    if (chosen) {
      void commands.executeCommand(chosen.command, ...(chosen.arguments ?? []));
    }
  });
}

export function sayError(message: string, ...buttons: Command[]): void {
  say(message, window.showErrorMessage, ...buttons);
}

/** Inpaint in VS Code: the language server's completions as ghost text, and what a user needs around them. */
import { commands, window, workspace, type ConfigurationChangeEvent, type ExtensionContext } from "vscode";
import { createEnvironment } from "./environment";
import { chooseModel, showMenu } from "./menu";
import { Server } from "./server";
import { change, SECTION, setting, toggleLanguage } from "./settings";
import { Status } from "./status";
import { Suggestion } from "./suggestion";

let server: Server;

export function activate(context: ExtensionContext): void {
  const log = window.createOutputChannel("Inpaint", { log: true });
  const suggestion: Suggestion = new Suggestion(
    (feedback) => server.feedback(feedback),
    () => status.update(),
  );
  const status: Status = new Status(() => suggestion.isShown);
  server = new Server(context, log, status, suggestion);

  const install = async (): Promise<void> => {
    if (await createEnvironment(context, log)) {
      server.restart();
    }
  };
  const actions: Record<string, () => unknown> = {
    menu: showMenu,
    toggle: () => change("enabled", !setting<boolean>("enabled")),
    toggleLanguage: () => window.activeTextEditor && toggleLanguage(window.activeTextEditor.document.languageId),
    trigger: () => trigger(suggestion),
    dismiss: () => dismiss(suggestion),
    chooseModel,
    install,
    restart: () => server.restart(),
    showLog: () => log.show(),
  };
  context.subscriptions.push(
    log,
    suggestion,
    status,
    ...Object.entries(actions).map(([name, action]) => commands.registerCommand(`${SECTION}.${name}`, action)),
    workspace.onDidChangeConfiguration((event) => onChange(event, status)),
    workspace.onDidOpenTextDocument(() => server.startWhenNeeded()),
    window.onDidChangeActiveTextEditor((editor) => {
      status.update();
      if (editor) {
        server.focus(editor);
      }
    }),
    window.onDidChangeTextEditorSelection((event) => server.focus(event.textEditor)),
  );
  status.update();
  server.startWhenNeeded();
}

export async function deactivate(): Promise<void> {
  await server.stop();
}

/** Ask for more than is shown. VS Code would keep what is shown in front of the answer, so that is hidden first. */
async function trigger(suggestion: Suggestion): Promise<void> {
  if (suggestion.isShown) {
    suggestion.clear();
    await commands.executeCommand("editor.action.inlineSuggest.hide");
  }
  await commands.executeCommand("editor.action.inlineSuggest.trigger", { showNoResultNotification: true });
}

async function dismiss(suggestion: Suggestion): Promise<void> {
  suggestion.dismiss();
  await commands.executeCommand("editor.action.inlineSuggest.hide");
}

/** The server takes its options while it runs; which Python and which documents it has is settled at its start. */
function onChange(event: ConfigurationChangeEvent, status: Status): void {
  if (event.affectsConfiguration("inpaint.python") || event.affectsConfiguration("inpaint.languages")) {
    server.restart();
  } else if (event.affectsConfiguration(SECTION)) {
    server.configure();
    server.startWhenNeeded();
  }
  status.update();
}

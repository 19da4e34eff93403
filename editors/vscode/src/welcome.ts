/** The first minutes: one notice, which leads to the walkthrough, and a file to try completions in. */
import { commands, Position, Selection, window, workspace, type ExtensionContext } from "vscode";

const WELCOMED = "welcomed";
const WALKTHROUGH = "inpaint.inpaint#start";
const SAMPLE = `class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        self.balance += amount
        return self.balance

    def withdraw(self, amount):
        self.balance -= amount
        return`; // of which both embedded models are sure

/** Once and never again. */
export async function welcome(context: ExtensionContext): Promise<void> {
  if (context.globalState.get(WELCOMED)) {
    return;
  }
  await context.globalState.update(WELCOMED, true);
  const start = "Show Me";
  const message = "Inpaint completes code as ghost text: type in a Python file, Tab accepts.";
  if ((await window.showInformationMessage(message, start)) === start) {
    await commands.executeCommand("workbench.action.openWalkthrough", WALKTHROUGH);
  }
}

/** A new file with the cursor where the next key brings a completion. */
export async function openSample(): Promise<void> {
  const document = await workspace.openTextDocument({ language: "python", content: SAMPLE });
  const editor = await window.showTextDocument(document);
  const end: Position = document.lineAt(document.lineCount - 1).range.end;
  editor.selection = new Selection(end, end);
}

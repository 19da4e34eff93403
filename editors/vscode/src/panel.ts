/** Several completions of a place one below the other, in a document of our own beside the user's, each to accept by a click. */
import {
  CodeLens,
  commands,
  Disposable,
  EventEmitter,
  languages,
  Position,
  Range,
  Uri,
  ViewColumn,
  window,
  workspace,
  type TextDocument,
  type TextEditor,
} from "vscode";
import type { Server } from "./server";

const SCHEME = "inpaint-panel";
const PANEL = Uri.parse(`${SCHEME}:Inpaint`);

interface Asked {
  editor: TextEditor;
  version: number; // of the document, when it was asked about
  head: string; // the cursor's line before it
  position: Position;
  items: Item[];
}

export interface Item {
  insertText: string;
  command?: { command: string; arguments?: unknown[] };
}

export class Panel implements Disposable {
  private asked: Asked | undefined;
  private readonly changed = new EventEmitter<Uri>();
  private readonly registrations: Disposable;

  constructor(private readonly server: Server) {
    const provideTextDocumentContent = (): string => this.text();
    const provideCodeLenses = (): CodeLens[] => this.lenses();
    this.registrations = Disposable.from(
      this.changed,
      workspace.registerTextDocumentContentProvider(SCHEME, { onDidChange: this.changed.event, provideTextDocumentContent }),
      languages.registerCodeLensProvider({ scheme: SCHEME }, { provideCodeLenses }),
      commands.registerCommand("inpaint.acceptFromPanel", (index: number) => this.accept(index)),
    );
  }

  /** Ask for completions at the cursor and show them. */
  async open(): Promise<void> {
    const editor = window.activeTextEditor;
    if (!editor || editor.document.uri.scheme === SCHEME) {
      return;
    }
    const { document, selection } = editor;
    const position = selection.active;
    const items = await this.server.ask(document, position);
    if (items.length === 0) {
      void window.showInformationMessage("Inpaint has no completion here.");
      return;
    }
    const head = document.getText(new Range(position.with(undefined, 0), position));
    this.asked = { editor, version: document.version, head, position, items };
    this.changed.fire(PANEL);
    const panel: TextDocument = await languages.setTextDocumentLanguage(await workspace.openTextDocument(PANEL), document.languageId);
    await window.showTextDocument(panel, { viewColumn: ViewColumn.Beside, preserveFocus: true, preview: true });
  }

  dispose(): void {
    this.registrations.dispose();
  }

  /** Each completion with the line that it goes on with, and an empty line between them. */
  private text(): string {
    return this.sections().join("\n\n") + "\n";
  }

  private sections(): string[] {
    return this.asked?.items.map((item) => this.asked!.head + item.insertText.replaceAll("\r\n", "\n")) ?? [];
  }

  private lenses(): CodeLens[] {
    let line = 0;
    return this.sections().map((section, index) => {
      const lens = new CodeLens(new Range(line, 0, line, 0), { title: "Accept", command: "inpaint.acceptFromPanel", arguments: [index] });
      line += section.split("\n").length + 1;
      return lens;
    });
  }

  private async accept(index: number): Promise<void> {
    const item = this.asked?.items[index];
    if (!this.asked || !item) {
      return;
    }
    const { editor, version, position } = this.asked;
    const { document } = editor;
    if (document.version !== version) {
      void window.showWarningMessage("The text has changed since: ask again at the cursor.");
      return;
    }
    const shown = await window.showTextDocument(document, editor.viewColumn);
    await shown.edit((edit) => edit.insert(position, item.insertText));
    if (item.command) {
      await this.server.tellAccepted(item.command);
    }
    const tab = window.tabGroups.all.flatMap((group) => group.tabs).find((tab) => isPanel(tab.input));
    if (tab) {
      await window.tabGroups.close(tab);
    }
  }
}

function isPanel(input: unknown): boolean {
  return input instanceof Object && "uri" in input && input.uri instanceof Uri && input.uri.scheme === SCHEME;
}

/**
 * The next edit: a mark in the gutter and a hint at the end of a line say where it is due; a key goes there and shows what
 * goes, struck out, and what comes; the key again makes it, one undo step. Nothing moves or changes unasked.
 *
 * VS Code's stable interface has nothing for it: all is decorations, and contexts for the keys.
 */
import {
  commands,
  Disposable,
  Range,
  Selection,
  TextEditorRevealType,
  ThemeColor,
  Uri,
  window,
  workspace,
  type DecorationOptions,
  type TextDocument,
  type TextDocumentChangeEvent,
  type TextEditor,
} from "vscode";
import type { Server } from "./server";
import { hasLanguage, setting } from "./settings";

const IDLE = 400; // ms without a change
const KEY = "Alt+L";
const DRAWING = '<path d="M4 3l5 5-5 5M9 3l5 5-5 5" fill="none" stroke="#888"/>';
const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16">${DRAWING}</svg>`;
const MARK = Uri.parse(`data:image/svg+xml;base64,${Buffer.from(SVG).toString("base64")}`);

interface Place {
  line: number;
  character: number;
}

/** An edit of the server's; `command` is to be run once it has been made. */
export interface Edit {
  text: string;
  range: { start: Place; end: Place };
  command: { command: string; arguments: string[] };
  id: string;
  label: string;
}

/** One edit or none; `all` has those of many places. */
export interface Answer {
  edits: Edit[];
  all?: Pick<Edit, "text" | "range">[];
}

interface Offer {
  document: TextDocument;
  version: number;
  edit: Edit;
  changes: { text: string; range: Range }[];
  previewed: boolean;
}

export class NextEdit implements Disposable {
  private offer: Offer | undefined;
  private timer: NodeJS.Timeout | undefined;
  private line = -1; // that was changed last, about which the server has not been asked
  private told = ""; // what the keys have been told
  private readonly mark = window.createTextEditorDecorationType({ gutterIconPath: MARK, gutterIconSize: "contain" });
  private readonly hint = window.createTextEditorDecorationType({
    after: { margin: "0 0 0 2ch", color: new ThemeColor("editorGhostText.foreground") },
  });
  private readonly removed = window.createTextEditorDecorationType({
    textDecoration: "line-through",
    backgroundColor: new ThemeColor("diffEditor.removedTextBackground"),
  });
  private readonly inserted = window.createTextEditorDecorationType({
    after: { backgroundColor: new ThemeColor("diffEditor.insertedTextBackground") },
  });
  private readonly disposables = Disposable.from(
    this.mark,
    this.hint,
    this.removed,
    this.inserted,
    workspace.onDidChangeTextDocument((event) => this.onEdit(event)),
    window.onDidChangeTextEditorSelection(({ textEditor }) => this.onMove(textEditor)),
    window.onDidChangeActiveTextEditor(() => this.clear()),
  );

  constructor(private readonly server: Server) {}

  dispose(): void {
    clearTimeout(this.timer);
    this.disposables.dispose();
  }

  /** Go to the edit and preview it; there, make it. */
  async go(): Promise<void> {
    const editor = window.activeTextEditor;
    if (!editor || !this.offer || editor.document !== this.offer.document) {
      return;
    }
    const { edit, changes, previewed } = this.offer;
    const start = changes[0]!.range.start;
    if (previewed && editor.selection.active.line === start.line) {
      this.clear();
      if (await editor.edit((builder) => changes.forEach(({ range, text }) => builder.replace(range, text)))) {
        await this.server.tellAccepted(edit.command);
      }
      return;
    }
    this.offer.previewed = true;
    editor.selection = new Selection(start, start);
    editor.revealRange(changes[0]!.range, TextEditorRevealType.InCenterIfOutsideViewport);
    this.server.notify("textDocument/didShowInlineEdit", { item: { command: edit.command } });
    this.draw();
  }

  /** Offer neither this nor another like it. */
  reject(): void {
    if (this.offer) {
      this.server.notify("inpaint/didRejectNextEdit", { id: this.offer.edit.id, reason: "rejected" });
    }
    this.clear();
  }

  private onEdit({ document, contentChanges, reason }: TextDocumentChangeEvent): void {
    const editor = window.activeTextEditor;
    if (document !== editor?.document || contentChanges.length === 0) {
      return;
    }
    this.clear();
    if (setting<boolean>("nextEdit") && reason === undefined && hasLanguage(document.languageId)) {
      this.line = contentChanges[0]!.range.start.line;
      this.timer = setTimeout(() => void this.ask(editor), IDLE);
    }
  }

  /** Ask at once when the line that was changed is left. */
  private onMove(editor: TextEditor): void {
    if (this.line >= 0 && editor.selection.active.line !== this.line) {
      void this.ask(editor);
    }
    this.tellKeys();
  }

  private async ask(editor: TextEditor): Promise<void> {
    clearTimeout(this.timer);
    this.line = -1;
    const { document } = editor;
    const { version } = document;
    const answer = await this.server.nextEdit(document, editor.selection.active);
    const edit = answer?.edits[0];
    if (edit && document.version === version && editor === window.activeTextEditor) {
      const changes = (answer.all ?? [edit]).map(({ text, range: { start, end } }) => ({
        text,
        range: new Range(start.line, start.character, end.line, end.character),
      }));
      this.offer = { document, version, edit, changes, previewed: false };
      this.draw();
    }
  }

  private draw(): void {
    const editor = window.activeTextEditor;
    if (!editor || !this.offer) {
      return;
    }
    const { edit, changes, previewed, document } = this.offer;
    const { line } = changes[0]!.range.start;
    const visible = editor.visibleRanges.some((range) => range.start.line <= line && line <= range.end.line);
    const end = document.lineAt(visible ? line : editor.selection.active.line).range.end;
    const text = previewed ? `${KEY} or Tab makes it, Escape rejects it` : `${KEY}: ${visible ? "" : `line ${line + 1}, `}${edit.label}`;
    editor.setDecorations(this.mark, [new Range(line, 0, line, 0)]);
    editor.setDecorations(this.hint, [{ range: new Range(end, end), renderOptions: { after: { contentText: text } } }]);
    editor.setDecorations(this.removed, previewed ? changes.map(({ range }) => range) : []);
    editor.setDecorations(this.inserted, previewed ? changes.map(inserted) : []);
    this.tellKeys();
  }

  private clear(): void {
    clearTimeout(this.timer);
    this.line = -1;
    if (!this.offer) {
      return;
    }
    this.offer = undefined;
    for (const editor of window.visibleTextEditors) {
      [this.mark, this.hint, this.removed, this.inserted].forEach((decoration) => editor.setDecorations(decoration, []));
    }
    this.tellKeys();
  }

  /** Tab makes it only where it shows and indents nothing. */
  private tellKeys(): void {
    const editor = window.activeTextEditor;
    const { document, changes, previewed } = this.offer ?? {};
    const at = editor?.selection.active;
    const there = previewed && at?.line === changes![0]!.range.start.line;
    const here = there && document!.lineAt(at!).firstNonWhitespaceCharacterIndex < at!.character;
    const offered = this.offer ? (there ? (here ? "here" : "there") : "offered") : "";
    if (offered !== this.told) {
      this.told = offered;
      void commands.executeCommand("setContext", "inpaint.nextEdit", offered);
    }
  }
}

function inserted({ range, text }: Offer["changes"][number]): DecorationOptions {
  return { range: new Range(range.end, range.end), renderOptions: { after: { contentText: text.replaceAll(" ", "\u00a0") } } };
}

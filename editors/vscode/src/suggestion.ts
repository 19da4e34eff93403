/**
 * What of our completion is still to be typed, and what the user does with it.
 *
 * VS Code tells an extension, with its stable interface, when a completion is accepted as a whole (the item's command) and
 * nothing else. The rest is inferred:
 * - shown: we returned it for this place in this text. VS Code may have shown another extension's instead, or another of
 *   several of ours: which one is told by what is typed next.
 * - partly accepted: several characters of it came in one edit at its place. Accepting one of a single character looks
 *   like typing it, and an automatically closed pair of brackets like accepting the two.
 * - dismissed: Escape reaches our command before VS Code's own. A keybinding of the user's that hides it goes unnoticed,
 *   and typing something else or moving the cursor is no verdict.
 */
import {
  commands,
  Disposable,
  InlineCompletionItem,
  Range,
  window,
  workspace,
  type InlineCompletionList,
  type Position,
  type TextDocument,
  type TextDocumentChangeEvent,
} from "vscode";

export interface Feedback {
  id: string;
  kind: "partlyAccepted" | "dismissed";
  characters: number | null;
}

interface Shown {
  document: TextDocument;
  position: Position; // where the rest goes
  choice: Rest[]; // at least one
}

interface Rest {
  id: string;
  text: string; // with \n only
}

export class Suggestion implements Disposable {
  private shown: Shown | undefined;
  private readonly listeners: Disposable;

  /** `onChange` is called when there is one and there was none, or the other way round. */
  constructor(
    private readonly tell: (feedback: Feedback) => void,
    private readonly onChange: () => void,
  ) {
    this.listeners = Disposable.from(
      workspace.onDidChangeTextDocument((event) => this.onEdit(event)),
      window.onDidChangeTextEditorSelection((event) => this.onMove(event.textEditor.document, event.selections[0]?.active)),
      window.onDidChangeActiveTextEditor(() => this.set(undefined)),
    );
  }

  get isShown(): boolean {
    return this.shown !== undefined;
  }

  /** Note what was returned to VS Code for a place. */
  offer(document: TextDocument, position: Position, result: InlineCompletionItem[] | InlineCompletionList): void {
    const items = Array.isArray(result) ? result : result.items;
    const choice = items.flatMap((item) => restOf(item, document, position) ?? []);
    this.set(choice.length > 0 ? { document, position, choice } : undefined);
  }

  dismiss(): void {
    if (this.shown) {
      this.tell({ id: this.shown.choice[0]!.id, kind: "dismissed", characters: null });
    }
    this.clear();
  }

  clear(): void {
    this.set(undefined);
  }

  dispose(): void {
    this.listeners.dispose();
  }

  private onEdit({ document, contentChanges }: TextDocumentChangeEvent): void {
    if (this.shown?.document !== document || contentChanges.length === 0) {
      return;
    }
    const { position } = this.shown;
    const [change, ...others] = contentChanges;
    const text = change!.text.replaceAll("\r\n", "\n");
    const choice = this.shown.choice.filter((rest) => rest.text.startsWith(text) && rest.text !== text);
    const inPlace = change!.range.isEmpty && change!.range.start.isEqual(position);
    if (others.length || !text || !inPlace || !choice[0]) {
      return this.clear();
    }
    if (text.length > 1) {
      this.tell({ id: choice[0].id, kind: "partlyAccepted", characters: text.length });
    }
    const end = document.positionAt(document.offsetAt(position) + change!.text.length);
    this.shown = { document, position: end, choice: choice.map(({ id, text: rest }) => ({ id, text: rest.slice(text.length) })) };
  }

  private onMove(document: TextDocument, position: Position | undefined): void {
    if (this.shown?.document === document && position && !position.isEqual(this.shown.position)) {
      this.clear();
    }
  }

  private set(shown: Shown | undefined): void {
    const changed = this.isShown !== (shown !== undefined);
    this.shown = shown;
    if (changed) {
      void commands.executeCommand("setContext", "inpaint.shown", this.isShown);
      this.onChange();
    }
  }
}

/** An item, less what of it is in the document; with a menu open an item begins with the menu's entry. */
function restOf(item: InlineCompletionItem, document: TextDocument, position: Position): Rest | undefined {
  const id = item.command?.arguments?.[0];
  const text = typeof item.insertText === "string" ? item.insertText.replaceAll("\r\n", "\n") : "";
  const typed = item.range ? document.getText(new Range(item.range.start, position)) : "";
  if (typeof id !== "string" || !text.startsWith(typed) || text === typed) {
    return undefined;
  }
  return { id, text: text.slice(typed.length) };
}

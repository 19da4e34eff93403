/** A mark at the end of the line: there is a completion, which the user has chosen to see only when asked for by key. */
import { Range, ThemeColor, window, workspace, type Disposable, type Position, type TextDocument } from "vscode";

export class Mark implements Disposable {
  private readonly decoration = window.createTextEditorDecorationType({
    after: { contentText: "»", margin: "0 0 0 1ch", color: new ThemeColor("editorGhostText.foreground") },
  });
  private readonly listener = workspace.onDidChangeTextDocument(() => this.clear());

  show(document: TextDocument, position: Position): void {
    const end = document.lineAt(position).range.end;
    for (const editor of window.visibleTextEditors.filter((editor) => editor.document === document)) {
      editor.setDecorations(this.decoration, [new Range(end, end)]);
    }
  }

  clear(): void {
    window.visibleTextEditors.forEach((editor) => editor.setDecorations(this.decoration, []));
  }

  dispose(): void {
    this.listener.dispose();
    this.decoration.dispose();
  }
}

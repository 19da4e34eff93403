/** The status bar item: one of six states, and what the last fill cost. */
import { MarkdownString, StatusBarAlignment, ThemeColor, window, type Disposable } from "vscode";
import { isOn } from "./settings";

export type State = "loading" | "idle" | "thinking" | "shown" | "off" | "error";

/** The parameters of the server's notification `inpaint/status`. */
export interface ServerStatus {
  state: Exclude<State, "shown">;
  message: string | null;
  model: string;
  answered: string | null;
  latencyMs: number | null;
  passes: number | null;
  fromCache: boolean | null;
  counts: { shown: number; accepted: number; partlyAccepted: number; dismissed: number };
}

const ICONS: Record<State, string> = {
  loading: "$(loading~spin)",
  idle: "$(sparkle)",
  thinking: "$(ellipsis)",
  shown: "$(lightbulb)",
  off: "$(circle-slash)",
  error: "$(error)",
};

export class Status implements Disposable {
  private readonly item = window.createStatusBarItem("inpaint.status", StatusBarAlignment.Right, 100);
  private server: ServerStatus | undefined;
  private failure: string | undefined; // what keeps the server from running

  /** `isShown` says whether a completion is on the screen. */
  constructor(private readonly isShown: () => boolean) {
    this.item.name = "Inpaint";
    this.item.command = "inpaint.menu";
    this.item.show();
  }

  /** The server starts, from nothing or again. */
  starting(): void {
    this.server = this.failure = undefined;
    this.update();
  }

  /** The server cannot run. */
  failed(message: string): void {
    this.failure = message;
    this.update();
  }

  report(status: ServerStatus): void {
    this.server = status;
    this.update();
  }

  get state(): State {
    const language = window.activeTextEditor?.document.languageId;
    if (this.failure !== undefined) {
      return "error";
    }
    if (language !== undefined && !isOn(language)) {
      return "off";
    }
    const state = this.server?.state ?? (language === undefined ? "idle" : "loading");
    return this.isShown() && state !== "error" ? "shown" : state;
  }

  /** Show what is the case now. */
  update(): void {
    const { state } = this;
    const milliseconds = this.server?.latencyMs;
    const cost = typeof milliseconds === "number" ? `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms` : "";
    this.item.text = `${ICONS[state]} Inpaint ${cost}`.trimEnd();
    this.item.accessibilityInformation = { label: ["Inpaint", state, cost].filter(Boolean).join(", ") };
    this.item.backgroundColor = state === "error" ? new ThemeColor("statusBarItem.errorBackground") : undefined;
    this.item.tooltip = this.tooltip(state, cost);
  }

  dispose(): void {
    this.item.dispose();
  }

  private tooltip(state: State, cost: string): MarkdownString {
    const text = new MarkdownString().appendText(`Inpaint is ${state === "shown" ? "showing a completion" : state}.`);
    const message = this.failure ?? this.server?.message;
    const paragraphs = message ? [message] : [];
    if (this.server) {
      const { model, answered, passes, fromCache, counts } = this.server;
      paragraphs.push(`Model: ${model}${answered && answered !== model ? ` (${answered})` : ""}`);
      if (cost) {
        paragraphs.push(`Last completion: ${cost}, ${fromCache ? "from the cache" : `${passes} passes of the model`}`);
      }
      paragraphs.push(
        `This session: ${counts.shown} shown, ${counts.accepted} accepted, ${counts.partlyAccepted} partly, ${counts.dismissed} dismissed`,
      );
    }
    paragraphs.forEach((paragraph) => text.appendMarkdown("\n\n").appendText(paragraph));
    return text;
  }
}

/** The status bar item: what Inpaint is doing, why it is silent, and what the last fill cost. */
import { MarkdownString, StatusBarAlignment, ThemeColor, window, type Disposable } from "vscode";
import { hasLanguage, isOn, languages, setting, display } from "./settings";
import type { Snooze } from "./snooze";
import { Source, summary, type WorkspaceIndex } from "./workspaceIndex";

export type State = "loading" | "idle" | "thinking" | "shown" | "off" | "error" | "snoozed" | "excluded";

/** The parameters of the server's notification `inpaint/status`. */
export interface ServerStatus {
  state: Exclude<State, "shown" | "snoozed" | "excluded">;
  reason: "excluded" | "language" | "untrained" | "unsure" | "dismissed" | "nothing" | null; // why nothing is shown
  message: string | null; // what is wrong, or that reason as a sentence
  model: string;
  models: { name: string; there: boolean; takes: string }[]; // that can be fetched
  answered: string | null;
  drafting: string | null; // whether that model denoises drafts; null where it has no drafter
  learned: string[] | null; // the languages that the model knows, where these are few
  latencyMs: number | null;
  passes: number | null;
  fromCache: boolean | null;
  counts: { shown: number; accepted: number; partlyAccepted: number; dismissed: number };
  index: WorkspaceIndex;
  nextEdit: string | null; // why there is no next edit; null where that is off
  source: string | null; // where the last completion was copied from
}

const ICONS: Record<State, string> = {
  loading: "$(loading~spin)",
  idle: "$(sparkle)",
  thinking: "$(ellipsis)",
  shown: "$(lightbulb)",
  off: "$(circle-slash)",
  error: "$(error)",
  snoozed: "$(bell-slash)",
  excluded: "$(circle-slash)",
};

export class Status implements Disposable {
  private readonly item = window.createStatusBarItem("inpaint.status", StatusBarAlignment.Right, 100);
  private server: ServerStatus | undefined;
  private failure: string | undefined; // what keeps the server from running
  private readonly waiting: (() => void)[] = []; // for the server's first word

  /** `isShown` says whether a completion is on the screen. */
  constructor(
    private readonly isShown: () => boolean,
    private readonly snooze: Snooze,
  ) {
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
    this.waiting.splice(0).forEach((action) => action());
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
    if (state === "error" || state === "loading") {
      return state;
    }
    if (this.isShown()) {
      return "shown";
    }
    return this.snooze.isOn ? "snoozed" : this.server?.reason === "excluded" ? "excluded" : state;
  }

  /** Whether the model knows a language; undefined where no server runs, which would know. */
  hasLearned(language: string): boolean | undefined {
    return this.server && (this.server.learned?.includes(language) ?? true);
  }

  /** Do something as soon as a server has said what it is. */
  whenKnown(action: () => void): void {
    if (this.server) {
      action();
    } else {
      this.waiting.push(action);
    }
  }

  /** The models that can be fetched and are not there. */
  get missing(): ServerStatus["models"] {
    return this.server?.models?.filter(({ there }) => !there) ?? [];
  }

  get learned(): string {
    return this.server?.learned?.join(", ") ?? "";
  }

  /** What is known of the workspace's files; undefined without a server. */
  get index(): string | undefined {
    return this.server?.index && summary(this.server.index);
  }

  /** Where most of the last completion was copied from; undefined where the model wrote it. */
  get source(): Source | undefined {
    return this.server?.source ? new Source(this.server.source) : undefined;
  }

  /** Why there is no completion, or what is wrong; undefined where there is nothing to say. */
  get explanation(): string | undefined {
    const language = window.activeTextEditor?.document.languageId;
    const { state } = this;
    if (state === "error") {
      return this.failure ?? this.server?.message ?? undefined;
    }
    if (state === "off" && !setting<boolean>("enabled")) {
      return "Inpaint is disabled.";
    }
    if (state === "off" && language !== undefined) {
      const others = `It completes in ${languages().join(", ")} only.`;
      return hasLanguage(language) ? `It is disabled for ${language}.` : `This is ${language}. ${others}`;
    }
    if (state === "loading") {
      return "The model is being loaded.";
    }
    if (state === "snoozed") {
      return `It is snoozed until ${this.snooze.end}; asked by key it completes all the same.`;
    }
    if (state === "idle" && display() === "key") {
      return "It shows nothing until asked by key.";
    }
    if (language !== undefined && this.hasLearned(language) === false) {
      return `The model has learned ${this.learned} only: expect little of it in ${language}.`;
    }
    return this.server?.message ?? undefined;
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
    const { explanation } = this;
    const paragraphs = explanation ? [explanation] : [];
    if (this.server) {
      const { model, answered, drafting, passes, fromCache, counts, nextEdit } = this.server;
      paragraphs.push(`Model: ${model}${answered && answered !== model ? ` (${answered})` : ""}`);
      if (cost) {
        const copied = this.source ? `, copied from ${this.source}` : "";
        paragraphs.push(`Last completion: ${cost}, ${fromCache ? "from the cache" : `${passes} passes of the model`}${copied}`);
      }
      if (drafting) {
        paragraphs.push(drafting);
      }
      if (nextEdit) {
        paragraphs.push(`Next edit: ${nextEdit}`);
      }
      if (this.index) {
        paragraphs.push(`Workspace: ${this.index}`);
      }
      paragraphs.push(
        `This session: ${counts.shown} shown, ${counts.accepted} accepted, ${counts.partlyAccepted} partly, ${counts.dismissed} dismissed`,
      );
    }
    paragraphs.forEach((paragraph) => text.appendMarkdown("\n\n").appendText(paragraph));
    return text;
  }
}

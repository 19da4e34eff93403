/** The menu of the status bar item, and the choices in it. */
import { commands, QuickPickItemKind, window, type QuickPickItem } from "vscode";
import { change, isOn, setting } from "./settings";
import type { Snooze } from "./snooze";
import type { Status } from "./status";

const EMBEDDED = "auto";
const GET = "inpaint.getModel"; // the server's own, there while it runs
const REBUILD = "inpaint.rebuildIndex";

interface Entry extends QuickPickItem {
  command?: string;
  arguments?: unknown[];
}

export async function showMenu(status: Status, snooze: Snooze): Promise<void> {
  const placeHolder = `${status.state}. ${status.explanation ?? ""}`.trimEnd();
  const chosen = await window.showQuickPick(entries(status, snooze), { title: "Inpaint", placeHolder });
  if (chosen?.command) {
    await commands.executeCommand(chosen.command, ...(chosen.arguments ?? []));
  }
}

function entries(status: Status, snooze: Snooze): Entry[] {
  const enabled = setting<boolean>("enabled");
  const language = window.activeTextEditor?.document.languageId;
  return [
    enabled
      ? { label: "$(circle-slash) Disable", command: "inpaint.toggle" }
      : { label: "$(check) Enable", command: "inpaint.toggle" },
    ...(enabled && language ? [languageEntry(language, status)] : []),
    snooze.isOn
      ? { label: "$(bell) End the snooze", description: `until ${snooze.end}`, command: "inpaint.endSnooze" }
      : { label: "$(bell-slash) Snooze…", command: "inpaint.snooze" },
    { label: "$(play) Complete now", command: "inpaint.trigger" },
    { label: "$(list-unordered) Show several completions", command: "inpaint.panel" },
    { label: "", kind: QuickPickItemKind.Separator },
    { label: "$(symbol-misc) Choose model…", description: setting<string>("model"), command: "inpaint.chooseModel" },
    { label: "$(graph) Statistics", command: "inpaint.statistics" },
    ...workspaceEntries(status),
    ...status.missing.map(({ name, takes }) => ({ label: `$(cloud-download) Get ${name}, once`, detail: takes, command: GET, arguments: [name] })),
    { label: "$(gear) Settings", command: "workbench.action.openSettings", arguments: ["@ext:inpaint.inpaint"] },
    { label: "$(output) Show log", command: "inpaint.showLog" },
    { label: "$(debug-restart) Restart the server", command: "inpaint.restart" },
  ];
}

/** Where the last completion came from, to go there; and the index of the workspace, to make it anew. */
function workspaceEntries({ source, index }: Status): Entry[] {
  const entries: Entry[] = [];
  if (source) {
    const label = "$(go-to-file) Where the last completion was copied from";
    entries.push({ label, description: String(source), command: "vscode.open", arguments: [source.uri, { selection: source.range }] });
  }
  if (index) {
    entries.push({ label: "$(refresh) Read the workspace anew", description: index, command: REBUILD });
  }
  return entries;
}

function languageEntry(language: string, status: Status): Entry {
  const on = isOn(language);
  const learned = status.hasLearned(language);
  const description = learned === false ? `the model has learned ${status.learned} only` : on || learned ? "" : "which the model may not know";
  return { label: on ? `$(circle-slash) Disable for ${language}` : `$(check) Enable for ${language}`, description, command: "inpaint.toggleLanguage" };
}

/** The embedded model, a folder, a hub id or a server; the language server takes it as soon as the setting changes. */
export async function chooseModel(): Promise<void> {
  const current = setting<string>("model");
  const folder: QuickPickItem = { label: "$(folder) Folder of another…" };
  const hub: QuickPickItem = { label: "$(cloud-download) Hub id of another…" };
  const url: QuickPickItem = { label: "$(server) URL of a server…" };
  const models: QuickPickItem[] = [{ label: EMBEDDED, description: "embedded" }];
  if (current !== EMBEDDED) {
    models.push({ label: current });
  }
  const others = new Map([[folder, chooseFolder], [hub, enterHubId], [url, enterUrl]]);
  const chosen = await window.showQuickPick([...models, ...others.keys()], { title: "Model", placeHolder: `Now: ${current}` });
  const model = chosen && (await (others.get(chosen)?.() ?? chosen.label));
  if (model) {
    await change("model", model);
  }
}

async function chooseFolder(): Promise<string | undefined> {
  const folders = await window.showOpenDialog({ canSelectFiles: false, canSelectFolders: true, openLabel: "Use This Model" });
  return folders?.[0]?.fsPath;
}

function enterHubId(): Thenable<string | undefined> {
  return window.showInputBox({ title: "Model", prompt: "Its id on the hub; it is downloaded, once", placeHolder: "owner/name" });
}

async function enterUrl(): Promise<string | undefined> {
  const prompt = "It is sent the text around the cursor, and of other open files";
  const url = await window.showInputBox({ title: "Model", prompt, placeHolder: "https://host", validateInput: wrongUrl });
  return url?.trim();
}

/** Why a text is no URL of a server; undefined where it is one. */
function wrongUrl(text: string): string | undefined {
  const url = text.trim();
  return /^https?:\/\//i.test(url) && URL.canParse(url) ? undefined : "A URL begins with https:// or http://, and names a host";
}

/** The user's settings: those of the server as it gets them, and switches that write them. */
import { ConfigurationTarget, workspace } from "vscode";

export const SECTION = "inpaint";
const SERVER_OPTIONS = [
  "enabled",
  "model",
  "device",
  "multiline",
  "maxLines",
  "steps",
  "trust",
  "deadlineAutomaticMs",
  "deadlineInvokedMs",
  "show",
  "minConfidence",
  "disabledLanguages",
  "disabledGlobs",
  "statistics",
  "workspace",
  "folders",
  "packages",
  "interpreter",
  "nextEdit",
];

/** The language of a file by its ending, which some take for the language's name. */
const ENDINGS: Record<string, string> = {
  py: "python",
  pyi: "python",
  js: "javascript",
  mjs: "javascript",
  cjs: "javascript",
  jsx: "javascriptreact",
  ts: "typescript",
  mts: "typescript",
  cts: "typescript",
  tsx: "typescriptreact",
  go: "go",
  golang: "go",
  rs: "rust",
};

/** A setting's value, which package.json gives a default. */
export function setting<T>(name: string): T {
  return workspace.getConfiguration(SECTION).get<T>(name) as T;
}

/** Write a setting where it is set already, in the workspace or else for the user. */
export async function change(name: string, value: unknown): Promise<void> {
  const settings = workspace.getConfiguration(SECTION);
  const inWorkspace = settings.inspect(name)?.workspaceValue !== undefined;
  await settings.update(name, value, inWorkspace ? ConfigurationTarget.Workspace : ConfigurationTarget.Global);
}

/** The server's options, under the names that it gives them; "status" asks for `inpaint/status`. */
export function serverOptions(): Record<string, unknown> {
  return { ...Object.fromEntries(SERVER_OPTIONS.map((name) => [name, setting(name)])), status: true };
}

/** The languages whose documents the server gets to see; "*" is all. */
export function languages(): string[] {
  return setting<string[]>("languages");
}

/** How completions show while the user types: as ghost text, as a mark, or not until asked by key. */
export function display(): "always" | "mark" | "key" {
  return setting("display");
}

/** Whether documents of a language are completed in; it may have a compound name, or be told by the file's ending. */
export function hasLanguage(language: string, path = ""): boolean {
  const parts = [...language.split("."), path.slice(path.lastIndexOf(".") + 1)];
  const names = [language, ...parts, ...parts.map((part) => ENDINGS[part])];
  return languages().includes("*") || languages().some((known) => names.includes(known));
}

/** The endings of the files of the languages that are completed in. */
export function endings(): string[] {
  return Object.keys(ENDINGS).filter((ending) => languages().some((language) => language === ENDINGS[ending]));
}

/** Whether completions come in documents of a language. */
export function isOn(language: string): boolean {
  return setting<boolean>("enabled") && hasLanguage(language) && !setting<string[]>("disabledLanguages").includes(language);
}

/** Turn a language off where it is on, and on where it is off; Inpaint as a whole stays as it is. */
export async function toggleLanguage(language: string): Promise<void> {
  const disabled = setting<string[]>("disabledLanguages");
  if (hasLanguage(language) && !disabled.includes(language)) {
    return change("disabledLanguages", [...disabled, language]);
  }
  if (!hasLanguage(language)) {
    await change("languages", [...languages(), language]);
  }
  if (disabled.includes(language)) {
    await change("disabledLanguages", disabled.filter((other) => other !== language));
  }
}

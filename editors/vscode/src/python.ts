/**
 * The Python that runs the server: the one of the setting, else the first with Inpaint of these: the Python extension's
 * interpreter, those on PATH, the private environment.
 */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { extensions, window, workspace, type ExtensionContext } from "vscode";
import { setting } from "./settings";

const WINDOWS = process.platform === "win32";
const ON_PATH = WINDOWS ? ["python", "py"] : ["python3", "python"];
const HAS_INPAINT = "from importlib.util import find_spec as f; exit(not (f('lsp_server.completer') and f('engine.contract')))";
const IS_RECENT = "import sys; exit(sys.version_info < (3, 10))";

/** The path of a Python that has Inpaint; undefined where there is none. */
export async function findPython(context: ExtensionContext): Promise<string | undefined> {
  const chosen = chosenPython();
  const candidates = chosen ? [chosen] : [await interpreter(), ...ON_PATH, privatePython(context)];
  for (const python of candidates) {
    const outdated = python === privatePython(context) && !(await isCurrent(context));
    if (python && !outdated && (await succeeds(python, HAS_INPAINT, context))) {
      return python;
    }
  }
  return undefined;
}

/** The Python of the setting `inpaint.python`; empty where it is not set. */
export function chosenPython(): string {
  return setting<string>("python").trim().replace(/^~(?=[\\/])/, homedir());
}

/** A Python that is recent enough to make an environment with; undefined where there is none. */
export async function findRecentPython(context: ExtensionContext): Promise<string | undefined> {
  for (const python of [await interpreter(), ...ON_PATH]) {
    if (python && (await succeeds(python, IS_RECENT, context))) {
      return python;
    }
  }
  return undefined;
}

export function privateEnvironment(context: ExtensionContext): string {
  return join(context.globalStorageUri.fsPath, "venv");
}

/** What the extension brings for the environment: the server's wheel, and what to install. */
export function packagedServer(context: ExtensionContext): string {
  return join(context.extensionPath, "dist", "server");
}

export function packagedRequirements(context: ExtensionContext): string {
  return join(packagedServer(context), "requirements.txt");
}

export function installedRequirements(context: ExtensionContext): string {
  return join(privateEnvironment(context), "requirements.txt");
}

/** Whether the private environment was made from what the extension brings: an update brings another server. */
async function isCurrent(context: ExtensionContext): Promise<boolean> {
  const files = [packagedRequirements(context), installedRequirements(context)];
  const [packaged, installed] = await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => undefined)));
  return packaged !== undefined && packaged === installed;
}

export function privatePython(context: ExtensionContext): string {
  return join(privateEnvironment(context), ...(WINDOWS ? ["Scripts", "python.exe"] : ["bin", "python"]));
}

/**
 * The interpreter that the user has chosen in the Python extension, where that is installed. It may be the workspace's
 * own, which is not run before the user trusts that.
 */
async function interpreter(): Promise<string | undefined> {
  const extension = extensions.getExtension("ms-python.python");
  if (!extension || !workspace.isTrusted) {
    return undefined;
  }
  const api = await Promise.resolve(extension.activate()).catch(() => undefined);
  return api?.environments?.getActiveEnvironmentPath(window.activeTextEditor?.document.uri)?.path;
}

/**
 * Whether a Python runs a line of code with success. It runs, as the server does, in the extension's folder, for Python
 * imports from the current one first and a workspace could have a module of our names there.
 */
function succeeds(python: string, code: string, context: ExtensionContext): Promise<boolean> {
  const options = { cwd: context.extensionPath, timeout: 30_000 };
  return new Promise((resolve) => execFile(python, ["-c", code], options, (error) => resolve(!error)));
}

/**
 * The private environment: made when the user asks for it, the only thing here that uses the network.
 *
 * The server's own wheel came with the extension; what it needs is pinned, by hashes, and taken as wheels only, so that
 * nothing but what this version was tested with is installed, and no package's code runs while it is.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { ProgressLocation, window, type CancellationToken, type ExtensionContext, type LogOutputChannel } from "vscode";
import { CHOOSE_PYTHON, sayError, SHOW_LOG } from "./messages";
import { findRecentPython, installedRequirements, packagedServer, packagedRequirements, privateEnvironment, privatePython } from "./python";

const PIP = ["-m", "pip", "install", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"];
/** What goes wrong, by a line of venv's or pip's, and what to do. */
const CAUSES: [RegExp, string][] = [
  [/No module named '?(venv|pip|ensurepip)|ensurepip is not available/, "this Python lacks venv or pip: on Debian and Ubuntu `apt install python3-venv`"],
  [/NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|SSLError|ConnectionError|ReadTimeout/, "pip could not reach its index: is there a network, or a proxy to set?"],
  [/DO NOT MATCH THE HASHES/, "a package was not the one that this version was tested with, and was not installed"],
  [/No matching distribution|Could not find a version/, "there are no packages for this Python and system: try another Python, 3.10 or newer"],
  [/No space left/, "the disk is full"],
];

let making: Promise<boolean> | undefined;

/**
 * Make the environment and install the server in it, with progress. Whether that succeeded; if not, it is said. Who asks
 * again meanwhile, as the offer may be made twice, gets the same: two at work in one folder would spoil it.
 */
export function createEnvironment(context: ExtensionContext, log: LogOutputChannel): Promise<boolean> {
  making ??= create(context, log).finally(() => (making = undefined));
  return making;
}

async function create(context: ExtensionContext, log: LogOutputChannel): Promise<boolean> {
  const python = await findRecentPython(context);
  if (!python) {
    sayError("Inpaint needs Python 3.10 or newer, and none was found. Install one from python.org or your system's packages.", CHOOSE_PYTHON);
    return false;
  }
  const options = { location: ProgressLocation.Notification, title: "Inpaint", cancellable: true };
  return window.withProgress(options, async (progress, token) => {
    const lines: string[] = [];
    const run = (command: string, ...words: string[]) =>
      execute([command, ...words], packagedServer(context), log, token, (line) => {
        lines.push(line);
        progress.report({ message: line.slice(0, 80) });
      });
    const done =
      (await run(python, "-m", "venv", "--clear", privateEnvironment(context))) &&
      (await run(privatePython(context), ...PIP, "-r", packagedRequirements(context)));
    if (done) {
      await copyFile(packagedRequirements(context), installedRequirements(context));
    } else if (!token.isCancellationRequested) {
      sayError(`Inpaint could not be installed with ${python}: ${cause(lines)}.`, SHOW_LOG, CHOOSE_PYTHON);
    }
    return done;
  });
}

function cause(lines: string[]): string {
  const known = CAUSES.find(([pattern]) => lines.some((line) => pattern.test(line)));
  const said = lines.filter((line) => /error/i.test(line)).at(-1) ?? lines.at(-1) ?? "it cannot be run";
  return known?.[1] ?? said.replace(/^ERROR: /, "").replace(/\.$/, "");
}

/** Run a program in a folder, its lines into the log. Whether it ended well. */
async function execute(
  [command, ...words]: [string, ...string[]],
  cwd: string,
  log: LogOutputChannel,
  token: CancellationToken,
  tell: (line: string) => void,
): Promise<boolean> {
  log.info([command, ...words].join(" "));
  const child = spawn(command, words, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  for (const stream of [child.stdout, child.stderr]) {
    createInterface(stream).on("line", (line) => {
      log.info(line);
      tell(line);
    });
  }
  const cancel = token.onCancellationRequested(() => child.kill());
  const code = await once(child, "close").then(([code]) => code, (error: Error) => log.error(error));
  cancel.dispose();
  return code === 0;
}

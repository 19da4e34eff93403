/** The private environment: made when the user asks for it, the only thing here that uses the network. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { ProgressLocation, window, type CancellationToken, type ExtensionContext, type LogOutputChannel } from "vscode";
import { sayError, SHOW_LOG } from "./messages";
import { findRecentPython, privateEnvironment, privatePython } from "./python";

const PACKAGE = "inpaint-lsp";

/** Make the environment and install the server in it, with progress. Whether that succeeded; if not, it is said. */
export async function createEnvironment(context: ExtensionContext, log: LogOutputChannel): Promise<boolean> {
  const python = await findRecentPython(context);
  if (!python) {
    sayError("Inpaint needs Python 3.10 or newer, and none was found. Install one from python.org or your system's packages.");
    return false;
  }
  const options = { location: ProgressLocation.Notification, title: "Inpaint", cancellable: true };
  return window.withProgress(options, async (progress, token) => {
    const run = (command: string, ...words: string[]) =>
      execute([command, ...words], log, token, (line) => progress.report({ message: line.slice(0, 80) }));
    const done =
      (await run(python, "-m", "venv", "--clear", privateEnvironment(context))) &&
      (await run(privatePython(context), "-m", "pip", "install", "--disable-pip-version-check", PACKAGE));
    if (!done && !token.isCancellationRequested) {
      sayError(`The environment could not be made, for which ${python} needs venv and pip, and pip the network.`, SHOW_LOG);
    }
    return done;
  });
}

/** Run a program, its lines into the log. Whether it ended well. */
async function execute(
  [command, ...words]: [string, ...string[]],
  log: LogOutputChannel,
  token: CancellationToken,
  tell: (line: string) => void,
): Promise<boolean> {
  log.info([command, ...words].join(" "));
  const child = spawn(command, words, { stdio: ["ignore", "pipe", "pipe"] });
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

/** The language server's life: found, started, configured, started again when it dies, and given up when it keeps dying. */
import {
  commands,
  InlineCompletionTriggerKind,
  languages as editorLanguages,
  window,
  workspace,
  type ExtensionContext,
  type LogOutputChannel,
  type Position,
  type TextDocument,
  type TextEditor,
} from "vscode";
import {
  CloseAction,
  ErrorAction,
  InlineCompletionTriggerKind as ServersTriggerKind,
  LanguageClient,
  MessageType,
  ShowMessageNotification,
  State,
  TransportKind,
  type DocumentSelector,
  type LanguageClientOptions,
  type ShowMessageParams,
} from "vscode-languageclient/node";
import { CHOOSE_MODEL, CHOOSE_PYTHON, INSTALL, OPEN_SETTINGS, RESTART, say, sayError, SHOW_LOG } from "./messages";
import type { Mark } from "./mark";
import type { Answer } from "./nextEdit";
import type { Item } from "./panel";
import { chosenPython, findPython } from "./python";
import { endings, hasLanguage, languages, serverOptions, setting, display } from "./settings";
import type { Snooze } from "./snooze";
import type { Statistics } from "./statistics";
import type { ServerStatus, Status } from "./status";
import type { Feedback, Suggestion } from "./suggestion";

const SCHEMES = ["file", "untitled", "vscode-notebook-cell"];
const CRASHES = 3; // in a minute; then it is broken and stays down
const MINUTE = 60_000;
const REST = 200; // ms without a move of the cursor

/** Leaves it to us to tell the user what goes wrong: once, and with a button that helps. */
class Client extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }
}

export class Server {
  private client: Client | undefined;
  private crashes: number[] = []; // times
  private resting: NodeJS.Timeout | undefined;
  private queue = Promise.resolve(); // of starts and stops, one after the other

  constructor(
    private readonly context: ExtensionContext,
    private readonly log: LogOutputChannel,
    private readonly status: Status,
    private readonly suggestion: Suggestion,
    private readonly snooze: Snooze,
    private readonly mark: Mark,
  ) {}

  /** Start once there is a document to complete in; a server costs memory. */
  startWhenNeeded(): void {
    const needed = workspace.textDocuments.some(({ languageId, uri }) => hasLanguage(languageId, uri.path) && SCHEMES.includes(uri.scheme));
    if (needed && setting<boolean>("enabled")) {
      this.enqueue(async () => this.client ?? (await this.start()));
    }
  }

  restart(): void {
    this.crashes = [];
    this.enqueue(async () => {
      await this.end();
      await this.start();
    });
  }

  stop(): Promise<void> {
    this.enqueue(() => this.end());
    return this.queue;
  }

  /** Send the settings as they are now. */
  configure(): void {
    if (this.client?.isRunning()) {
      void this.client.sendNotification("workspace/didChangeConfiguration", { settings: serverOptions() });
    }
  }

  /** The completions of a place, as many as there are. */
  async ask(document: TextDocument, position: Position): Promise<Item[]> {
    if (!this.client?.isRunning()) {
      return [];
    }
    const textDocument = { uri: this.uri(this.client, document) };
    const context = { triggerKind: ServersTriggerKind.Invoked };
    const request = { textDocument, position: { line: position.line, character: position.character }, context };
    const result = await this.client.sendRequest<{ items: Item[] } | Item[] | null>("textDocument/inlineCompletion", request);
    return (Array.isArray(result) ? result : result?.items) ?? [];
  }

  /** The edit that is due after those that were just made; undefined without a server. */
  async nextEdit(document: TextDocument, { line, character }: Position): Promise<Answer | undefined> {
    if (!this.client?.isRunning()) {
      return undefined;
    }
    const textDocument = { uri: this.uri(this.client, document), version: document.version };
    return this.client.sendRequest<Answer>("inpaint/nextEdit", { textDocument, position: { line, character } });
  }

  notify(method: string, params: object): void {
    if (this.client?.isRunning()) {
      void this.client.sendNotification(method, params);
    }
  }

  /** The figures of this session, and of earlier ones where they are kept; undefined without a server. */
  statistics(): Promise<Statistics | undefined> {
    return this.request<Statistics>("inpaint/statistics");
  }

  async resetStatistics(): Promise<void> {
    await this.request("inpaint/resetStatistics");
  }

  async tellAccepted(command: NonNullable<Item["command"]>): Promise<void> {
    await this.client?.sendRequest("workspace/executeCommand", { command: command.command, arguments: command.arguments });
  }

  feedback(feedback: Feedback): void {
    this.notify("inpaint/feedback", feedback);
  }

  /** Where the cursor is, once it rests: the server reads ahead what a completion there would need. */
  focus(editor: TextEditor): void {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      if (this.client?.isRunning() && hasLanguage(editor.document.languageId, editor.document.uri.path)) {
        const converter = this.client.code2ProtocolConverter;
        const textDocument = converter.asTextDocumentIdentifier(editor.document);
        const position = converter.asPosition(editor.selection.active);
        void this.client.sendNotification("textDocument/didFocus", { textDocument, position });
      }
    }, REST);
  }

  private async request<T>(method: string): Promise<T | undefined> {
    return this.client?.isRunning() ? this.client.sendRequest<T>(method) : undefined;
  }

  private uri(client: Client, document: TextDocument): string {
    return client.code2ProtocolConverter.asUri(document.uri);
  }

  private enqueue(action: () => Promise<unknown>): void {
    this.queue = this.queue.then(action).then(undefined, (error: Error) => this.log.error(error));
  }

  private async start(): Promise<void> {
    this.status.starting();
    const python = await findPython(this.context);
    if (!python) {
      return this.failWithoutPython();
    }
    this.log.info(`The server runs in ${python}.`);
    const run = { command: python, args: ["-m", "lsp_server"], transport: TransportKind.stdio as const };
    const client = new Client("inpaint", "Inpaint", { ...run, options: { cwd: this.context.extensionPath } }, this.options(await documentSelector()));
    client.onNotification("inpaint/status", (status: ServerStatus) => this.status.report(status));
    client.onNotification(ShowMessageNotification.type, tell); // in place of the client's own, which has no buttons
    this.client = client;
    await client.start().catch((error: Error) => this.log.error(error)); // and onClose says it
    if (window.activeTextEditor) {
      this.focus(window.activeTextEditor);
    }
    void commands.executeCommand("setContext", "inpaint.running", client.isRunning());
  }

  private async end(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    this.suggestion.clear();
    await client?.dispose().catch(() => undefined); // one that has not started cannot be stopped
  }

  private options(documentSelector: DocumentSelector): LanguageClientOptions {
    return {
      documentSelector,
      initializationOptions: serverOptions,
      outputChannel: this.log,
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => ({ action: this.onClose(), handled: true }),
      },
      middleware: {
        provideInlineCompletionItems: async (document, position, context, token, next) => {
          const { version } = document;
          const unasked = context.triggerKind === InlineCompletionTriggerKind.Automatic && !this.suggestion.isShown;
          if (unasked && (this.snooze.isOn || display() === "key")) {
            return undefined;
          }
          const result = await next(document, position, context, token);
          if (!result || token.isCancellationRequested || document.version !== version) {
            return result;
          }
          if (unasked && display() === "mark") {
            if ((Array.isArray(result) ? result : result.items).length > 0) {
              this.mark.show(document, position);
            }
            return undefined;
          }
          this.suggestion.offer(document, position, result);
          return result;
        },
      },
    };
  }

  /** What to do now that the server has gone without being asked to. */
  private onClose(): CloseAction {
    this.suggestion.clear();
    const now = Date.now();
    this.crashes = [...this.crashes.filter((time) => now - time < MINUTE), now];
    if (this.client?.state === State.Running && this.crashes.length <= CRASHES) {
      this.status.starting();
      return CloseAction.Restart;
    }
    const problem = this.client?.state === State.Running ? "keeps ending" : "did not start";
    this.fail(`The server of Inpaint ${problem}. The log says why.`, SHOW_LOG, RESTART);
    return CloseAction.DoNotRestart;
  }

  private failWithoutPython(): void {
    const chosen = chosenPython();
    if (chosen) {
      return this.fail(`"${chosen}", which inpaint.python names, is no Python with the package inpaint-lsp.`, CHOOSE_PYTHON, RESTART);
    }
    const offer = "Shall a private environment be made for it? The server comes with this extension; pip will download what it needs.";
    this.fail(`Inpaint found no Python with its server. ${offer}`, INSTALL, CHOOSE_PYTHON);
  }

  private fail(message: string, ...buttons: Parameters<typeof sayError>[1][]): void {
    this.log.error(message);
    this.status.failed(message);
    sayError(message, ...buttons);
  }
}

/** Of languages, whatever other extensions call them, and of files by their endings. */
async function documentSelector(): Promise<DocumentSelector> {
  if (languages().includes("*")) {
    return SCHEMES.map((scheme) => ({ scheme }));
  }
  const known = (await editorLanguages.getLanguages()).filter((language) => hasLanguage(language));
  const named = [...new Set([...languages(), ...known])];
  return SCHEMES.flatMap((scheme) => [
    ...named.map((language) => ({ scheme, language })),
    ...endings().map((ending) => ({ scheme, pattern: `**/*.${ending}` })),
  ]);
}

/** A message of the server: it is about the model where it is an error, and about a setting where it warns. */
function tell({ type, message }: ShowMessageParams): void {
  if (type === MessageType.Error) {
    sayError(message, CHOOSE_MODEL, SHOW_LOG);
  } else if (type === MessageType.Warning) {
    say(message, window.showWarningMessage, OPEN_SETTINGS);
  } else {
    say(message, window.showInformationMessage);
  }
}

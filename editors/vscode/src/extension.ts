/** Inpaint in VS Code: the language server's completions as ghost text, and what a user needs around them. */
import { commands, window, workspace, type ConfigurationChangeEvent, type ExtensionContext } from "vscode";
import { createEnvironment } from "./environment";
import { Mark } from "./mark";
import { chooseModel, showMenu } from "./menu";
import { NextEdit } from "./nextEdit";
import { Panel } from "./panel";
import { Server } from "./server";
import { change, isOn, SECTION, setting, toggleLanguage } from "./settings";
import { Snooze } from "./snooze";
import { resetStatistics, showStatistics } from "./statistics";
import { Status } from "./status";
import { Suggestion } from "./suggestion";
import { openSample, welcome } from "./welcome";

let server: Server;

export function activate(context: ExtensionContext): void {
  const log = window.createOutputChannel("Inpaint", { log: true });
  const suggestion: Suggestion = new Suggestion(
    (feedback) => server.feedback(feedback),
    () => status.update(),
  );
  const snooze: Snooze = new Snooze(() => status.update());
  const status: Status = new Status(() => suggestion.isShown, snooze);
  const mark = new Mark();
  server = new Server(context, log, status, suggestion, snooze, mark);
  const panel = new Panel(server);
  const nextEdit = new NextEdit(server);

  const install = async (): Promise<void> => {
    if (await createEnvironment(context, log)) {
      server.restart();
    }
  };
  const actions: Record<string, () => unknown> = {
    menu: () => showMenu(status, snooze),
    toggle: () => change("enabled", !setting<boolean>("enabled")),
    toggleLanguage: () => window.activeTextEditor && switchLanguage(window.activeTextEditor.document.languageId, status),
    snooze: async (minutes?: number) => {
      await (minutes === undefined ? snooze.choose() : snooze.start(minutes));
      await commands.executeCommand("editor.action.inlineSuggest.hide");
    },
    endSnooze: () => snooze.stop(),
    panel: () => panel.open(),
    statistics: () => showStatistics(server),
    resetStatistics: () => resetStatistics(server),
    sample: openSample,
    trigger: () => trigger(suggestion),
    dismiss: () => dismiss(suggestion),
    nextEdit: () => nextEdit.go(),
    rejectNextEdit: () => nextEdit.reject(),
    chooseModel,
    install,
    restart: () => server.restart(),
    showLog: () => log.show(),
  };
  context.subscriptions.push(
    log,
    suggestion,
    status,
    snooze,
    mark,
    panel,
    nextEdit,
    ...Object.entries(actions).map(([name, action]) => commands.registerCommand(`${SECTION}.${name}`, action)),
    workspace.onDidChangeConfiguration((event) => onChange(event, status)),
    workspace.onDidOpenTextDocument(() => server.startWhenNeeded()),
    window.onDidChangeActiveTextEditor((editor) => {
      status.update();
      if (editor) {
        server.focus(editor);
      }
    }),
    window.onDidChangeTextEditorSelection((event) => server.focus(event.textEditor)),
  );
  status.update();
  server.startWhenNeeded();
  void welcome(context);
}

export async function deactivate(): Promise<void> {
  await server.stop();
}

async function switchLanguage(language: string, status: Status): Promise<void> {
  await toggleLanguage(language);
  if (isOn(language)) {
    status.whenKnown(() => warnOf(language, status)); // it may be the first one, which starts the server
  }
}

function warnOf(language: string, status: Status): void {
  if (!status.hasLearned(language)) {
    void window.showWarningMessage(`The model has learned ${status.learned} only: expect little of it in ${language}.`);
  }
}

/** Ask for more than is shown. VS Code would keep what is shown in front of the answer, so that is hidden first. */
async function trigger(suggestion: Suggestion): Promise<void> {
  if (suggestion.isShown) {
    suggestion.clear();
    await commands.executeCommand("editor.action.inlineSuggest.hide");
  }
  await commands.executeCommand("editor.action.inlineSuggest.trigger", { showNoResultNotification: true });
}

async function dismiss(suggestion: Suggestion): Promise<void> {
  suggestion.dismiss();
  await commands.executeCommand("editor.action.inlineSuggest.hide");
}

/** The server takes its options while it runs; which Python and which documents it has is settled at its start. */
function onChange(event: ConfigurationChangeEvent, status: Status): void {
  if (event.affectsConfiguration("inpaint.python") || event.affectsConfiguration("inpaint.languages")) {
    server.restart();
  } else if (event.affectsConfiguration(SECTION)) {
    server.configure();
    server.startWhenNeeded();
  }
  status.update();
}

/** A page of figures: what completions were worth, by language and day, and how long they took. */
import { ViewColumn, window, type WebviewPanel } from "vscode";
import type { Server } from "./server";

const DAYS = 14;

/** A row of the server's: one language on one day. */
interface Row {
  day: string;
  language: string;
  counts: { shown: number; accepted: number; partlyAccepted: number; dismissed: number };
  characters: number;
  latencies: number[]; // how many completions took up to each of the bounds, the last ones longer
}

export interface Statistics {
  days: Row[];
  bounds: number[]; // milliseconds
}

interface Sum {
  name: string;
  shown: number;
  accepted: number;
  characters: number;
}

let panel: WebviewPanel | undefined;

/** Show the page, with the figures of now. */
export async function showStatistics(server: Server): Promise<void> {
  if (!panel) {
    panel = window.createWebviewPanel("inpaint.statistics", "Inpaint", ViewColumn.Active, { enableCommandUris: ["inpaint.resetStatistics"] });
    panel.onDidDispose(() => (panel = undefined));
  }
  panel.webview.html = page((await server.statistics()) ?? { days: [], bounds: [] });
  panel.reveal();
}

export async function resetStatistics(server: Server): Promise<void> {
  await server.resetStatistics();
  if (panel) {
    await showStatistics(server);
  }
}

function page({ days, bounds }: Statistics): string {
  const latencies = days.reduce<number[]>((sum, row) => row.latencies.map((number, i) => number + (sum[i] ?? 0)), []);
  const most = Math.max(1, ...latencies);
  const bars = latencies.map((number, i) => {
    const name = bounds[i] === undefined ? `over ${bounds.at(-1)}` : `to ${bounds[i]}`;
    return `<tr><th>${name} ms</th><td>${number}</td><td class="wide"><meter max="${most}" value="${number}"></meter></td></tr>`;
  });
  return `<!DOCTYPE html>
<html><head><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
  table { border-collapse: collapse; margin-bottom: 2em } th { text-align: left; font-weight: normal }
  td, th { padding: 2px 12px } td { text-align: right } .wide, meter { width: 240px }
</style></head><body>
<h1>What completions were worth</h1>
<table>${heading}${sums(days, () => "all").map(line).join("")}</table>
<h2>By language</h2><table>${heading}${sums(days, (row) => row.language).map(line).join("")}</table>
<h2>By day</h2><table>${heading}${sums(days, (row) => row.day).slice(-DAYS).map(line).join("")}</table>
<h2>How long they took</h2><table>${bars.join("")}</table>
<p>Counted on this machine, without any text; kept after the session with the setting inpaint.statistics.
<a href="command:inpaint.resetStatistics">Forget all of it</a></p>
</body></html>`;
}

const heading = "<tr><th></th><td>shown</td><td>accepted</td><td>ratio</td><td>characters saved</td></tr>";

function line({ name, shown, accepted, characters }: Sum): string {
  const ratio = shown > 0 ? `${Math.round((100 * accepted) / shown)} %` : "";
  return `<tr><th>${escaped(name)}</th><td>${shown}</td><td>${accepted}</td><td>${ratio}</td><td>${characters}</td></tr>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

/** The rows added up by a name, in the order that the names come in. */
function sums(rows: Row[], nameOf: (row: Row) => string): Sum[] {
  const found = new Map<string, Sum>();
  for (const row of rows) {
    const name = nameOf(row);
    const { shown, accepted, characters } = found.get(name) ?? { shown: 0, accepted: 0, characters: 0 };
    found.set(name, {
      name,
      shown: shown + row.counts.shown,
      accepted: accepted + row.counts.accepted + row.counts.partlyAccepted,
      characters: characters + row.characters,
    });
  }
  return [...found.values()];
}

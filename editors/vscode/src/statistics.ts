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
  latencies: number[];
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
  const all = sums(days, () => "all");
  const latencies = all[0]?.latencies ?? [];
  const most = Math.max(1, ...latencies);
  const bars = latencies.map(
    (number, i) =>
      `<tr><th>${upTo(bounds, i)}</th><td>${number}</td><td class="wide"><meter max="${most}" value="${number}"></meter></td></tr>`,
  );
  const table = (rows: Sum[]): string => `<table>${heading}${rows.map((sum) => line(sum, bounds)).join("")}</table>`;
  return `<!DOCTYPE html>
<html><head><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
  table { border-collapse: collapse; margin-bottom: 2em } th { text-align: left; font-weight: normal }
  td, th { padding: 2px 12px } td { text-align: right } .wide, meter { width: 240px }
</style></head><body>
<h1>What completions were worth</h1>
${table(all)}
<h2>By language</h2>${table(sums(days, (row) => row.language))}
<h2>By day</h2>${table(sums(days, (row) => row.day).slice(-DAYS))}
<h2>How long they took</h2><table>${bars.join("")}</table>
<p>Counted on this machine, without any text; kept after the session with the setting inpaint.statistics.
<a href="command:inpaint.resetStatistics">Forget all of it</a></p>
</body></html>`;
}

const heading = "<tr><th></th><td>shown</td><td>accepted</td><td>ratio</td><td>characters saved</td><td>half took</td></tr>";

function line({ name, shown, accepted, characters, latencies }: Sum, bounds: number[]): string {
  const ratio = shown > 0 ? `${Math.round((100 * accepted) / shown)} %` : "";
  const half = upTo(bounds, median(latencies));
  return `<tr><th>${escaped(name)}</th><td>${shown}</td><td>${accepted}</td><td>${ratio}</td><td>${characters}</td><td>${half}</td></tr>`;
}

/** The name of a bar of the histogram. */
function upTo(bounds: number[], bar: number): string {
  return bounds[bar] === undefined ? `over ${bounds.at(-1)} ms` : `to ${bounds[bar]} ms`;
}

/** The bar by which half of them have come. */
function median(histogram: number[]): number {
  let left = histogram.reduce((sum, number) => sum + number, 0) / 2;
  return histogram.findIndex((number) => (left -= number) <= 0);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

/** The rows added up by a name, in the order that the names come in. */
function sums(rows: Row[], nameOf: (row: Row) => string): Sum[] {
  const found = new Map<string, Sum>();
  for (const row of rows) {
    const name = nameOf(row);
    const { shown, accepted, characters, latencies } = found.get(name) ?? { shown: 0, accepted: 0, characters: 0, latencies: [] };
    found.set(name, {
      name,
      shown: shown + row.counts.shown,
      accepted: accepted + row.counts.accepted + row.counts.partlyAccepted,
      characters: characters + row.characters,
      latencies: row.latencies.map((number, i) => number + (latencies[i] ?? 0)),
    });
  }
  return [...found.values()];
}

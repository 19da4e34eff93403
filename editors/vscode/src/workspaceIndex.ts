/** What the server knows of the workspace's files, and where a completion was copied from, in words. */
import { Position, Range, Uri, workspace } from "vscode";

/** A part of `inpaint/status`, see editors/README.md. */
export interface WorkspaceIndex {
  state: "off" | "none" | "building" | "ready" | "error";
  files: number;
  leftOut: Record<string, number>; // by the reason
  packages: string[];
  read: number;
  of: number;
  message: string | null; // what is wrong
}

/** What is known and what was left out, a sentence without its end. */
export function summary({ state, files, leftOut, packages, read, of, message }: WorkspaceIndex): string {
  if (state === "off") {
    return "turned off by inpaint.workspace";
  }
  if (state === "none") {
    return "no folder is open";
  }
  if (state === "building") {
    return of > 0 ? `reading, ${read} of ${of} files` : "reading";
  }
  const reasons = Object.entries(leftOut).map(([reason, number]) => `${number} ${reason}`);
  return [
    `${files} ${files === 1 ? "file" : "files"} known`,
    reasons.length > 0 ? `left out: ${reasons.join(", ")}` : "",
    packages.length > 0 ? `with ${packages.join(", ")}` : "",
    message ?? "",
  ]
    .filter(Boolean)
    .join("; ");
}

/** A place that the server names as PATH:LINE. */
export class Source {
  readonly uri: Uri;
  readonly range: Range;

  constructor(place: string) {
    const end = place.lastIndexOf(":");
    this.uri = Uri.file(place.slice(0, end));
    const line = new Position(Number(place.slice(end + 1)) - 1, 0);
    this.range = new Range(line, line);
  }

  toString(): string {
    return `${workspace.asRelativePath(this.uri)}:${this.range.start.line + 1}`;
  }
}

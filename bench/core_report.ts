import type { Machine } from "./machine.ts";
import { type Row, shown, table } from "./markdown.ts";
import type { SuiteReport } from "./suite_report.ts";

/** A figure of the control plane, with its bar. */
export interface CoreRow {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** Whether less is better; else more is. */
  readonly isCost: boolean;
  readonly bar: number;
}

/** All that `deno task bench:core` measures. */
export interface CoreReport {
  readonly schemaVersion: 1;
  readonly tool: SuiteReport["tool"];
  readonly command: string;
  readonly startedAt: string;
  readonly machine: Machine;
  readonly rows: readonly CoreRow[];
}

/** Whether a figure is on the right side of its bar. */
export function isWithin({ value, bar, isCost }: CoreRow): boolean {
  return isCost ? value <= bar : value >= bar;
}

const HEAD = ["What", "Figure", "Bar", "Within"] as const;

function cells(row: CoreRow): Row {
  const { what, value, unit, bar, isCost } = row;
  const limit = `${isCost ? "≤" : "≥"} ${shown(bar)} ${unit}`;
  return [what, `${shown(value)} ${unit}`, limit, isWithin(row) ? "yes" : "no"];
}

/** The paragraphs and the table of the section. */
export function coreSections({ command, startedAt, tool, machine, rows }: CoreReport): string[] {
  return [
    "## The control plane",
    "Pure functions of the core, in one process. A placement's figure is the longest of all " +
    "preferences and both shardings, of a model for one node, one for several and one that fits " +
    "nowhere; nodes differ in memory and speed.",
    ["```sh", `npx -y ${command}`, "```"].join("\n"),
    `${machine.cpu}, ${machine.cores} cores. ${startedAt.slice(0, 10)}, exo ` +
    `${tool.commit ?? "unknown"}${tool.hasChanges ? " with changes" : ""}.`,
    table(HEAD, rows.map(cells)),
  ];
}

/** The rows as lines for a terminal. */
export function coreLines({ rows }: Pick<CoreReport, "rows">): string[] {
  return rows.map((row) => {
    const [what, figure, bar, within] = cells(row);
    return `${what}: ${figure} (${bar}: ${within})`;
  });
}

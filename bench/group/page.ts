import { barCell } from "../bar.ts";
import { shown, table } from "../markdown.ts";
import { QUIET_PERCENT_MAX } from "../process_usage.ts";
import type { GroupReport, GroupRow } from "./report.ts";

const HEAD = ["What", "exo", "llama.cpp", "exo ÷ llama.cpp", "Asked"] as const;

/** The paragraphs and the table of the section. */
export function groupSections(report: GroupReport): string[] {
  const { command, startedAt, tool, machine, model, llamaCpp, settings, rows } = report;
  const { rounds, threads, tg, streams } = settings;
  return [
    "## One model over several machines",
    "Machines are network namespaces of one computer, with a switch in user space between them " +
    "that delays and counts frames: ratios tell what spreading costs, not what faster machines " +
    "gain. Exo in turns with llama.cpp's server, which computes the first half of the layers " +
    "itself and has `ggml-rpc-server` compute the others; the same file, threads, prompts and " +
    "client. Speeds count tokens from the first text to the end. What links add to a token is asked " +
    "in turns with and without their delay. Where rows name a small model, its steps take next to " +
    "no time: processors that wait within those of a larger one lose some speed by that, too.",
    ["```sh", `npx -y ${command}`, "```"].join("\n"),
    `${model.file} on ${machine.cpu}, ${machine.cores} cores. ${startedAt.slice(0, 10)}, exo ` +
    `${tool.commit ?? "unknown"}${tool.hasChanges ? " with changes" : ""}, llama.cpp ` +
    `${llamaCpp ?? "-"}; threads of each machine: ${threads}, answers of ${tg} tokens, ` +
    `${streams} streams at once, medians of ${rounds} rounds.`,
    table(HEAD, rows.map(cells)),
    noteOf(report),
  ];
}

/** The rows as lines for a terminal. */
export function groupLines(report: GroupReport): string[] {
  const all = [HEAD, ...report.rows.map(cells)];
  const widths = HEAD.map((_, at) => Math.max(...all.map((row) => row[at]?.length ?? 0)));
  const lines = all.map((row) => row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  "));
  const failures = report.turns.flatMap(({ program, layout, error }) =>
    error ? [`${program}, ${layout}, failed: ${error.message}`] : []
  );
  return [...lines.map((line) => line.trimEnd()), noteOf(report), ...failures];
}

/** What tells how far the figures may be trusted. */
function noteOf({ turns }: GroupReport): string {
  const busy = turns.flatMap(({ busyPercent }) => busyPercent ?? []);
  const noisy = busy.filter((percent) => percent > QUIET_PERCENT_MAX).length;
  return `Others used the machine before ${noisy} of ${turns.length} turns.`;
}

function cells(row: GroupRow): string[] {
  const { what, unit, ours, theirs, ratio } = row;
  const figure = (value: number | null) => value === null ? "-" : `${shown(value)} ${unit}`;
  const quotient = ratio === null ? "-" : `${shown(ratio)} ×`;
  return [what, figure(ours), figure(theirs), quotient, barCell(row)];
}

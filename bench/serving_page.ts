import { barCell } from "./bar.ts";
import { table } from "./markdown.ts";
import { QUIET_PERCENT_MAX } from "./process_usage.ts";
import type { ServingReport, ServingRow } from "./serving_report.ts";

const SERVING_HEAD = ["What", "exo", "llama.cpp", "exo ÷ llama.cpp", "Asked"] as const;

const GROUPS: readonly (readonly [ServingRow["group"], string])[] = [
  ["greedy", "Throughput, the likeliest token (temperature 0)"],
  ["default", "Throughput, each server's own sampling"],
  ["times", "Waiting"],
];

/** The paragraphs and the table of the section. */
export function servingSections(report: ServingReport): string[] {
  const { command, startedAt, tool, model, machine, settings, servers, rows } = report;
  const { pp, tg, longPp, rounds, threads } = settings;
  const peer = servers[1];
  return [
    "## Many requests at once",
    "Streamed chats through the HTTP API, exo (a node and its runner) in turns with llama.cpp's " +
    "server: the same file, threads, prompts and numbers of tokens, both with their caches of " +
    "prompts on. Tokens per second are those of all streams together, from the first request " +
    "to the last answer's end, prompts included; no two prompts begin alike, but for the " +
    'template. "Default" sends no sampling parameter, so each server takes its own.',
    ["```sh", `npx -y ${command}`, "```"].join("\n"),
    `${model.file} on ${machine.cpu}, ${machine.cores} cores. ${startedAt.slice(0, 10)}, exo ` +
    `${tool.commit ?? "unknown"}${tool.hasChanges ? " with changes" : ""}, llama.cpp ` +
    `${peer?.version ?? "-"}; ${threads} threads, streams of ${pp} prompt tokens and ${tg} ` +
    `generated ones, long prompts of ${longPp}; medians of ${rounds} rounds.`,
    ...GROUPS.flatMap(([group, title]) => [
      `### ${title}`,
      table(SERVING_HEAD, rows.filter((row) => row.group === group).map(servingCells)),
    ]),
    noteOf(report),
  ];
}

/** The rows as lines for a terminal. */
export function servingLines(report: ServingReport): string[] {
  const rows = report.rows.map((row) => [row.group, ...servingCells(row)]);
  const head = ["", ...SERVING_HEAD];
  const shown = [head, ...rows];
  const widths = head.map((_, at) => Math.max(...shown.map((row) => row[at]?.length ?? 0)));
  const lines = shown.map((row) => row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  "));
  const failures = report.servers.flatMap(({ name, rounds }) =>
    rounds.flatMap(({ error }) => error ? [`${name} failed: ${error.message}`] : [])
  );
  return [...lines.map((line) => line.trimEnd()), noteOf(report), ...failures];
}

/** What tells how far the figures may be trusted. */
function noteOf({ servers }: ServingReport): string {
  const rounds = servers.flatMap((server) => server.rounds);
  const shares = rounds.flatMap(({ figures }) =>
    figures
      ? [figures.intrusion, ...figures.throughput].map(({ clientCpuPercent }) => clientCpuPercent)
      : []
  );
  const client = shares.length === 0
    ? ""
    : `The measuring client took ${Math.round(Math.max(...shares))} % of one core at most. `;
  const busy = rounds.flatMap(({ busyPercent }) => busyPercent ?? []);
  const noisy = busy.filter((percent) => percent > QUIET_PERCENT_MAX).length;
  return `${client}Others used the machine before ${noisy} of ${rounds.length} turns.`;
}

/** A row as a table shows it. */
function servingCells(row: ServingRow): string[] {
  const { metric, unit, ours, theirs, ratio } = row;
  return [
    metric,
    `${digits(ours)} ${unit}`,
    theirs === null ? "-" : `${digits(theirs)} ${unit}`,
    ratio === null ? "-" : `${digits(ratio)} ×`,
    barCell(row),
  ];
}

/** Three digits that matter are enough for people. */
function digits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

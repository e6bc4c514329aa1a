import { formatBytes } from "../core/units.ts";
import { type CoreReport, coreSections } from "./core_report.ts";
import { cellsOf, ENGINE_HEAD, type EngineReport } from "./engine_report.ts";
import { groupSections } from "./group/page.ts";
import type { GroupReport } from "./group/report.ts";
import { laidOut, type Row, shown, table, wrap } from "./markdown.ts";
import { type NetworkReport, networkSections } from "./network_report.ts";
import { QUIET_PERCENT_MAX } from "./process_usage.ts";
import { LLAMA_BENCH } from "./ratios.ts";
import type { CellReport } from "./report.ts";
import { servingSections } from "./serving_page.ts";
import type { ServingReport } from "./serving_report.ts";
import { mean } from "./statistics.ts";
import type { LlamaBenchFigure, Ratio, ServerReport, SuiteReport } from "./suite_report.ts";

/** The report that is kept, and the page made of it, below the root of the sources. */
export const RESULT_PATH = "bench/results/latest.json";
/** Likewise of the engine alone, by what was measured: a model from outside, and a synthetic one. */
export const ENGINE_PATHS = {
  model: "bench/results/engine.json",
  synthetic: "bench/results/engine-synthetic.json",
  avx2: "bench/results/engine-avx2.json",
} as const;
/** Likewise of many requests at once. */
export const SERVING_PATH = "bench/results/serving.json";
/** Likewise of one model over several machines. */
export const GROUP_PATH = "bench/results/group.json";
/** Likewise of the control plane. */
export const CORE_PATH = "bench/results/core.json";
/** Likewise of what nodes say to each other. */
export const NETWORK_PATH = "bench/results/network.json";
/** See `RESULT_PATH`. */
export const PAGE_PATH = "docs/performance.md";

/** What the page may show beside the suite. */
export interface OtherReports {
  readonly engines?: readonly EngineReport[];
  readonly serving?: ServingReport | undefined;
  readonly group?: GroupReport | undefined;
  readonly core?: CoreReport | undefined;
  readonly network?: NetworkReport | undefined;
}

/** The performance page: all of its figures come from these reports. */
export function performancePage(
  report: SuiteReport,
  { engines = [], serving, group, core, network }: OtherReports = {},
): string {
  const sections = [
    "# Performance",
    "All figures of this page come from the runs whose commands it shows, which write the page " +
    "(`bench/performance_page.ts`); do not edit it. Absolute figures hold for the machine below " +
    "and tell orders of magnitude elsewhere; ratios come from turns taken in alternation.",
    ["```sh", `npx -y ${report.command}`, "```"].join("\n"),
    table(["What", "Which"], subjectRows(report)),
    "## A node without a model",
    table(["What", "Figure", "Bar"], nodeRows(report)),
    "## The model, through the API",
    "Medians of all rounds. Prompt speed is prompt tokens ÷ time to first token; decode speed is " +
    "taken between the first text and the last. On a machine with few cores a server whose " +
    "threads wait for each other at every step loses much to a client beside it: llama-bench " +
    "shows what llama.cpp does alone.",
    ...report.settings.concurrency.flatMap((concurrency) => speedSection(report, concurrency)),
    "## Load and memory",
    "First answer: one token to a short question, from the order to load. Memory is the most that " +
    "was resident at once, mapped files included.",
    table(
      ["Server", "Ready, ms", "First answer, ms", "Of which", "Model's process", "Others"],
      report.servers.map(loadRow),
    ),
    ...(report.ratios.length === 0 ? [] : ratioSections(report)),
    ...(engines.length === 0 ? [] : engineSections(engines)),
    ...(serving ? servingSections(serving) : []),
    ...(group ? groupSections(group) : []),
    ...(core ? coreSections(core) : []),
    ...(network ? networkSections(network) : []),
    "## Settings and noise",
    [...report.servers.map(settingsLine), ...noiseLines(report)].map((line) => wrap(`- ${line}`))
      .join("\n"),
  ];
  return `${sections.map(laidOut).join("\n\n")}\n`;
}

/** The ratios as lines for a terminal. */
export function ratioLines({ ratios, servers }: SuiteReport): string[] {
  if (ratios.length === 0) return ["No peers, no ratios: --peer mlx-lm --peer llama.cpp"];
  const rows = [RATIO_HEAD, ...ratios.map(ratioRow)];
  const widths = RATIO_HEAD.map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  "));
  const failures = servers.flatMap(({ name, rounds }) =>
    rounds.flatMap(({ error }) => error ? [`${name} failed: ${error.message}`] : [])
  );
  return [...lines.map((line) => line.trimEnd()), ...failures];
}

function subjectRows(report: SuiteReport): Row[] {
  const { tool, machine, model, settings, servers, llamaBench } = report;
  const { cores, cpu, memoryBytes, arch } = machine;
  const lengths = settings.lengths.map(({ pp, tg }) => `prompt ${pp}, answer ${tg}`).join("; ");
  const changes = tool.hasChanges ? ", with changes that are not committed" : "";
  return [
    ["Date", report.startedAt.slice(0, 10)],
    ["exo", `${tool.version}, commit ${tool.commit ?? "unknown"}${changes}`],
    ...servers.slice(1).map(({ name, version }) => [name, version]),
    ...(llamaBench ? [[LLAMA_BENCH, llamaBench.version]] : []),
    ["Machine", `${cpu}, ${cores} cores, ${formatBytes(memoryBytes)}, ${arch}`],
    ["System", `${machine.os}, Deno ${machine.deno}`],
    ["Model", `${model.file}, ${formatBytes(model.bytes)}`],
    ["Tokens", `${lengths}; temperature 0`],
    ["Threads", `${settings.threads}`],
    ["Rounds", `${settings.rounds}, after ${settings.warmup} warm-up requests in each`],
  ];
}

function nodeRows({ node: { startMs, idle } }: SuiteReport): Row[] {
  const started = `process start to \`/readyz\`, from source, median of ${startMs.all.length}`;
  const resident = idle.residentBytes === null ? "-" : formatBytes(idle.residentBytes);
  return [
    [started, `${shown(startMs.median)} ms`, "500 ms"],
    [`idle for ${idle.seconds} s, CPU`, `${shown(idle.cpuPercent)} % of a core`, "1 %"],
    ["idle, resident memory", resident, "150 MB"],
  ];
}

function speedSection(report: SuiteReport, concurrency: number): string[] {
  const head = ["Server", "Prompt tokens", "Prompt, tok/s", "Decode, tok/s", "First token, ms"];
  const isAlone = concurrency === 1;
  const rows = report.servers.flatMap(({ name, medians: { cells } }) =>
    cells.filter((cell) => cell.concurrency === concurrency).map((cell) =>
      speedRow(name, cell, isAlone)
    )
  );
  const own = report.llamaBench?.medians.filter((one) => one.concurrency === concurrency) ?? [];
  const title = isAlone ? "### One request" : `### ${concurrency} requests at once`;
  return [
    title,
    table([...head, isAlone ? "Answer, ms" : "Output of all, tok/s"], [
      ...rows,
      ...(own.length === 0 ? [] : [ownRow(own, isAlone)]),
    ]),
  ];
}

function speedRow(name: string, cell: CellReport, isAlone: boolean): Row {
  return [
    cell.failed > 0 ? `${name} (${cell.failed} of ${cell.runs} failed)` : name,
    shown(cell.promptTokens),
    shown(cell.promptTokensPerSecond),
    shown(cell.decodeTokensPerSecond),
    shown(cell.ttftMs),
    shown(isAlone ? cell.endToEndMs : cell.outputTokensPerSecond),
  ];
}

/** Of several sequences at once its programs tell sums only. */
function ownRow(figures: readonly LlamaBenchFigure[], isAlone: boolean): Row {
  const prompt = figures.find(({ kind }) => kind === "prompt");
  const decode = shown(
    figures.find(({ kind }) => kind === "decode")?.tokensPerSecond ?? null,
  );
  const promptTokens = `${prompt?.tokens ?? "-"}`;
  const promptSpeed = shown(prompt?.tokensPerSecond ?? null);
  return isAlone
    ? [LLAMA_BENCH, promptTokens, promptSpeed, decode, "-", "-"]
    : ["llama-batched-bench", promptTokens, `${promptSpeed} (all)`, "-", "-", decode];
}

function loadRow({ name, medians }: ServerReport): Row {
  const { loadMs, firstAnswerMs, loadPartsMs, peakBytes } = medians;
  const parts = Object.entries(loadPartsMs).map(([part, ms]) => `${part} ${shown(ms)}`);
  const { model, ...others } = peakBytes;
  const rest = Object.entries(others).map(([part, bytes]) => `${part} ${formatBytes(bytes)}`);
  return [
    name,
    shown(loadMs),
    shown(firstAnswerMs),
    parts.join(", ") || "-",
    model === undefined ? "-" : formatBytes(model),
    rest.join(", ") || "-",
  ];
}

const RATIO_HEAD = ["Peer", "What", "exo", "Peer's", "exo ÷ peer", "Better"] as const;

function ratioSections({ ratios }: SuiteReport): string[] {
  return ["## Ratios", table(RATIO_HEAD, ratios.map(ratioRow))];
}

function ratioRow({ peer, metric, unit, ours, theirs, ratio, better }: Ratio): Row {
  const figure = (value: number) => `${shown(value)} ${unit}`;
  return [peer, metric, figure(ours), figure(theirs), `${shown(ratio)} ×`, better];
}

function engineSections(engines: readonly EngineReport[]): string[] {
  return [
    "## The engine alone",
    "The decoder in a process of its own, without node and HTTP, in turns with llama.cpp's own " +
    "programs and with a loop that only reads memory. Medians; memory is what loading adds at most. " +
    "With `--instructions avx2` both use AVX2 alone, as most processors have to.",
    ...engines.flatMap(({ command, startedAt, tool, model, settings, rows }) => [
      ["```sh", `npx -y ${command}`, "```"].join("\n"),
      `${model.file}: ${formatBytes(model.weightBytes)} of weights, of which ` +
      `${formatBytes(model.tokenBytes)} are read for each token. ${startedAt.slice(0, 10)}, exo ` +
      `${tool.commit ?? "unknown"}${tool.hasChanges ? " with changes" : ""}, llama.cpp ` +
      `${settings.llamaCpp}; a prompt of ${settings.pp} tokens, ${settings.tg} tokens generated, ` +
      `${settings.rounds} rounds.`,
      table(ENGINE_HEAD, rows.map(cellsOf)),
    ]),
  ];
}

function settingsLine({ name, settings }: ServerReport): string {
  return `${name}: ${settings}.`;
}

/** What tells how far the figures may be trusted. */
function noiseLines({ servers, llamaBench, settings }: SuiteReport): string[] {
  const rounds = [...servers.flatMap((server) => server.rounds), ...llamaBench?.rounds ?? []];
  const busy = rounds.flatMap(({ busyPercent }) => busyPercent === null ? [] : [busyPercent]);
  const quiet = busy.filter((percent) => percent <= QUIET_PERCENT_MAX).length;
  const cells = servers.flatMap(({ name, medians }) =>
    medians.cells.map((cell) => ({ name, ...cell }))
  );
  const asked = new Map(settings.lengths.map(({ pp }) => [pp, pp]));
  const other = cells.filter(({ pp, promptTokens }) =>
    promptTokens !== null && promptTokens !== asked.get(pp)
  );
  const cached = servers.flatMap(({ name, rounds }) =>
    rounds.some(({ runs }) => runs.some((run) => (run.cachedTokens ?? 0) > 0)) ? [name] : []
  );
  return [
    "One server runs at a time: each turn starts it, asks it and stops it.",
    busy.length === 0
      ? "What others used of the machine is unknown."
      : `Just before the turns, others used ${shown(mean(busy))} % of the machine on average; it ` +
        `was quiet (${QUIET_PERCENT_MAX} % at most) before ${quiet} of ${busy.length} turns.`,
    ...spreadLines(servers),
    ...other.map(({ name, pp, promptTokens }) =>
      `${name} counts ${promptTokens} tokens in the prompt of ${pp}.`
    ),
    ...cells.filter(({ short }) => short > 0).map(({ name, short, runs, tg }) =>
      `${name}: ${short} of ${runs} answers ended before ${tg} tokens.`
    ),
    ...cached.map((name) => `${name} took parts of prompts from a cache.`),
  ];
}

/** How far the rounds of one server lie apart. */
function spreadLines(servers: readonly ServerReport[]): string[] {
  return servers.flatMap(({ name, rounds }) => {
    const speeds = rounds.flatMap(({ runs }) =>
      runs.filter(({ concurrency }) => concurrency === 1)
        .flatMap((run) => run.decodeTokensPerSecond ?? [])
    );
    if (speeds.length < 2) return [];
    const [least, most] = [Math.min(...speeds), Math.max(...speeds)];
    return [`${name}: decode of one request from ${shown(least)} to ${shown(most)} tok/s.`];
  });
}

/** The page of the reports that are kept. */
export async function keptPage(): Promise<string> {
  const read = async (path: string) =>
    JSON.parse(await Deno.readTextFile(new URL(`../${path}`, import.meta.url)));
  const readIfKept = (path: string) =>
    read(path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  const engines: EngineReport[] = [];
  for (const path of Object.values(ENGINE_PATHS)) {
    const kept = await readIfKept(path);
    if (kept) engines.push(kept);
  }
  const serving = await readIfKept(SERVING_PATH);
  const group = await readIfKept(GROUP_PATH);
  const core = await readIfKept(CORE_PATH);
  const network = await readIfKept(NETWORK_PATH);
  return performancePage(await read(RESULT_PATH), { engines, serving, group, core, network });
}

/** Keeps a report, and writes the page of all that are kept. */
export async function keepReport(
  path: string,
  report: SuiteReport | EngineReport | ServingReport | GroupReport | CoreReport | NetworkReport,
): Promise<void> {
  const root = new URL("../", import.meta.url);
  await Deno.mkdir(new URL("bench/results", root), { recursive: true });
  await Deno.writeTextFile(new URL(path, root), `${JSON.stringify(report, null, 2)}\n`);
  await Deno.writeTextFile(new URL(PAGE_PATH, root), await keptPage());
}

// As a program it writes the page anew from the reports that are kept.
if (import.meta.main) {
  await Deno.writeTextFile(new URL(`../${PAGE_PATH}`, import.meta.url), await keptPage());
}

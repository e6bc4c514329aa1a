import { type Row, shown, table } from "./markdown.ts";
import type { SuiteReport } from "./suite_report.ts";

/** What a cluster says while nothing is asked of it, or so many generations in a second. */
export interface TrafficRow {
  readonly nodes: number;
  readonly when: "idle" | "load";
  /** In a second, of a node on average. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly receivedMessages: number;
  /** In a second, of the master. */
  readonly masterReceivedBytes: number;
  readonly masterSentBytes: number;
  /** The largest message to all. */
  readonly largestBytes: number;
  /** In a second, of a node on average, by the type of message. */
  readonly bytesByType: Readonly<Record<string, number>>;
}

/** What it costs to replace a master that has died, from its death until all obey the next. */
export interface SuccessionRow {
  readonly nodes: number;
  readonly tookMs: number;
  /** In all, of a node on average. */
  readonly receivedBytes: number;
  readonly receivedMessages: number;
  /** In all, of the new master. */
  readonly masterSentBytes: number;
  readonly largestBytes: number;
  readonly bytesByType: Readonly<Record<string, number>>;
}

/** All that `deno task bench:network` measures. */
export interface NetworkReport {
  readonly schemaVersion: 1;
  readonly tool: SuiteReport["tool"];
  readonly command: string;
  readonly startedAt: string;
  readonly settings: {
    readonly edgesPerNode: number;
    readonly idleSeconds: number;
    readonly loadSeconds: number;
    readonly generationsPerSecond: number;
  };
  readonly traffic: readonly TrafficRow[];
  readonly succession: readonly SuccessionRow[];
}

const TRAFFIC_HEAD = [
  ...["Nodes", "When", "Received, B/s", "Sent, B/s", "Received, messages/s"],
  ...["Master received, B/s", "Master sent, B/s", "Largest to all, B", "Mostly"],
] as const;

const SUCCESSION_HEAD = [
  ...["Nodes", "Until all obey the next, ms", "Received, B", "Received, messages"],
  ...["New master sent, B", "Largest to all, B", "Mostly"],
] as const;

function trafficCells(row: TrafficRow): Row {
  return [
    String(row.nodes),
    row.when,
    rounded(row.receivedBytes),
    rounded(row.sentBytes),
    shown(row.receivedMessages),
    rounded(row.masterReceivedBytes),
    rounded(row.masterSentBytes),
    String(row.largestBytes),
    mostly(row.bytesByType),
  ];
}

function successionCells(row: SuccessionRow): Row {
  return [
    String(row.nodes),
    String(row.tookMs),
    rounded(row.receivedBytes),
    rounded(row.receivedMessages),
    rounded(row.masterSentBytes),
    String(row.largestBytes),
    mostly(row.bytesByType),
  ];
}

function rounded(value: number): string {
  return String(Math.round(value));
}

/** The type of message that takes most, and its share. */
function mostly(bytesByType: Readonly<Record<string, number>>): string {
  const types = Object.entries(bytesByType);
  const all = types.reduce((sum, [, bytes]) => sum + bytes, 0);
  const most = types.reduce((a, b) => (b[1] > a[1] ? b : a), ["-", 0]);
  return all === 0 ? "-" : `${most[0]}, ${Math.round(100 * most[1] / all)} %`;
}

/** The paragraphs and the tables of the section. */
export function networkSections(report: NetworkReport): string[] {
  const { settings, tool, startedAt, command } = report;
  const { edgesPerNode, idleSeconds, loadSeconds, generationsPerSecond } = settings;
  return [
    "## The control plane on the network",
    "Whole clusters of the core's members in virtual time: what the nodes say to each other, as " +
    "encoded. A message to all counts once for its sender and once for each receiver; copies that " +
    "a transport makes on its way come on top. The same figures come on every machine.",
    ["```sh", `npx -y ${command}`, "```"].join("\n"),
    `Measured on ${startedAt.slice(0, 10)}, exo ${tool.commit ?? "unknown"}` +
    `${tool.hasChanges ? " with changes" : ""}. Each node has ${edgesPerNode} links, where ` +
    `there are as many others. Idle, for ${idleSeconds} s: memory, processor and round trips are ` +
    `measured each second, and go up and down a little. Load, for ${loadSeconds} s: ${generationsPerSecond} generations a second in the ` +
    "whole cluster.",
    table(TRAFFIC_HEAD, report.traffic.map(trafficCells)),
    "What it costs to replace a master whose process dies, from its death until every node obeys " +
    "the next:",
    table(SUCCESSION_HEAD, report.succession.map(successionCells)),
  ];
}

/** The rows as lines for a terminal. */
export function networkLines(
  { traffic, succession }: Pick<NetworkReport, "traffic" | "succession">,
): string[] {
  const line = (head: Row, cells: Row) => cells.map((cell, at) => `${head[at]} ${cell}`).join(", ");
  return [
    ...traffic.map((row) => line(TRAFFIC_HEAD, trafficCells(row))),
    ...succession.map((row) => line(SUCCESSION_HEAD, successionCells(row))),
  ];
}

/** Bytes and messages of a cluster that is idle, under load, and without its master. */
import type { NetworkReport, SuccessionRow, TrafficRow } from "../network_report.ts";
import { busyCluster, UUID_CHARS } from "./busy_cluster.ts";
import { generate } from "./generation.ts";
import { MemberCluster, type Traffic } from "./member_cluster.ts";

/** What is measured. */
export const NETWORK_SETTINGS = {
  edgesPerNode: 10,
  // As long as it takes until all latest values are told again.
  idleSeconds: 30,
  loadSeconds: 10,
  generationsPerSecond: 10,
} as const satisfies NetworkReport["settings"];

/** How many nodes there are for each instance. */
const NODES_PER_INSTANCE = 10;

/** How long a generation takes. */
const GENERATION_MS = 800;

/** How long a cluster may take until all obey one master. */
const SETTLE_MS_MAX = 20_000;

/** After an election: latest values have been told anew. */
const QUIET_MS = 5_000;

/** A cluster of so many nodes that know each other already. */
export function measureCluster(
  nodes: number,
  settings: NetworkReport["settings"] = NETWORK_SETTINGS,
): { traffic: TrafficRow[]; succession: SuccessionRow } {
  const state = busyCluster({
    nodes,
    edgesPerNode: Math.min(settings.edgesPerNode, nodes - 1),
    instances: Math.max(2, Math.floor(nodes / NODES_PER_INSTANCE)),
    ranksPerInstance: 1,
    tasks: 0,
    hasLongIds: true,
  });
  const cluster = new MemberCluster(state);
  cluster.settle(SETTLE_MS_MAX);
  cluster.pass(QUIET_MS);
  const traffic = (["idle", "load"] as const).map((when) => {
    const seconds = when === "idle" ? settings.idleSeconds : settings.loadSeconds;
    cluster.takeTraffic();
    if (when === "load") load(cluster, settings);
    cluster.pass(1_000 * seconds);
    return trafficRow(cluster, when, seconds);
  });
  cluster.pass(QUIET_MS);
  cluster.takeTraffic();
  return { traffic, succession: succession(cluster) };
}

function load(
  cluster: MemberCluster,
  { generationsPerSecond, loadSeconds }: NetworkReport["settings"],
): void {
  const { machines } = cluster;
  const pauseMs = 1_000 / generationsPerSecond;
  for (let n = 0; n < generationsPerSecond * loadSeconds; n++) {
    // Neighbours in number are not neighbours in time.
    const api = machines[(n * 7) % machines.length];
    if (!api) continue;
    const name = `generation-${n}-`.padEnd(UUID_CHARS, ".");
    const plan = { api, name, durationMs: GENERATION_MS };
    cluster.after(n * pauseMs, () => generate(cluster, plan));
  }
}

function trafficRow(
  cluster: MemberCluster,
  when: TrafficRow["when"],
  seconds: number,
): TrafficRow {
  const traffic = cluster.takeTraffic();
  const nodes = cluster.machines.length;
  const { at = 0 } = cluster.master ?? {};
  return {
    nodes,
    when,
    receivedBytes: traffic.bytes / nodes / seconds,
    sentBytes: sum(traffic.sentBytes) / nodes / seconds,
    receivedMessages: traffic.messages / nodes / seconds,
    masterReceivedBytes: (traffic.receivedBytes[at] ?? 0) / seconds,
    masterSentBytes: (traffic.sentBytes[at] ?? 0) / seconds,
    largestBytes: traffic.largestBytes,
    bytesByType: byType(traffic, nodes * seconds),
  };
}

function succession(cluster: MemberCluster): SuccessionRow {
  const { master } = cluster;
  if (!master) throw new Error("nobody leads");
  cluster.kill(master);
  const tookMs = cluster.settle(SETTLE_MS_MAX);
  const traffic = cluster.takeTraffic();
  const nodes = cluster.machines.length;
  const left = nodes - 1;
  return {
    nodes,
    tookMs,
    receivedBytes: traffic.bytes / left,
    receivedMessages: traffic.messages / left,
    masterSentBytes: traffic.sentBytes[cluster.master?.at ?? 0] ?? 0,
    largestBytes: traffic.largestBytes,
    bytesByType: byType(traffic, left),
  };
}

function byType(traffic: Traffic, divisor: number): Record<string, number> {
  const types = [...traffic.byType].map(([type, bytes]) => [type, Math.round(bytes / divisor)]);
  return Object.fromEntries(types);
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}

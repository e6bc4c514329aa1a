import { z } from "zod";
import type { EdgeView, StateView } from "../api/client.ts";
import { formatBytes } from "../core/units.ts";
import { defineCommand } from "./command.ts";
import { STATS_HEAD, statsCells } from "./instance_stats.ts";
import { InstanceSummary, statusWords, summaries } from "./instance_view.ts";
import { MetaInstanceSummary, metaTable, summarizeMeta } from "./meta_instance_view.ts";
import { table } from "./output.ts";

const NodeView = z.strictObject({
  nodeId: z.string().describe("Id of the node"),
  name: z.string().describe("Friendly name"),
  version: z.string().describe("Version of exo that it runs"),
  isMaster: z.boolean().describe("Whether it decides for the cluster"),
  backends: z.array(z.string()).readonly().describe("What it computes with, such as `MlxCpu`"),
  ramTotalBytes: z.number().int().nullable().describe("Memory; null when unknown"),
  ramAvailableBytes: z.number().int().nullable().describe("Of it, free; null when unknown"),
});

const LinkView = z.strictObject({
  source: z.string().describe("Node that reaches the other"),
  sink: z.string().describe("Node that is reached"),
  kind: z.enum(["socket", "rdma"]).describe("Over the network, or a cable between RDMA devices"),
  address: z.string().describe("Where the sink is reached: a multiaddr, or both RDMA devices"),
  bandwidthBitsPerSecond: z.number().optional().describe("As last measured"),
  latencyMs: z.number().optional().describe("Of one round trip, as last measured"),
});

const TaskView = z.strictObject({
  taskId: z.string().describe("Id of the task"),
  type: z.string().describe("Such as `TextGeneration`"),
  instanceId: z.string().describe("Instance that does it"),
  modelId: z.string().describe("Model that was asked for"),
  status: z.string().describe("`Pending`, `Running`, `Complete`, `Failed` or `Cancelled`"),
});

const View = z.strictObject({
  nodes: z.array(NodeView).readonly().describe("Nodes of the cluster"),
  links: z.array(LinkView).readonly().describe("How nodes reach each other"),
  metaInstances: z.array(MetaInstanceSummary).readonly().describe("What is kept running"),
  instances: z.array(InstanceSummary).readonly().describe("Models that are placed"),
  tasks: z.array(TaskView).readonly().describe("What is asked of them now"),
});
type View = z.infer<typeof View>;

/** `exo status`. */
export const status = defineCommand({
  name: "status",
  summary: "Show nodes, links, instances and tasks",
  example: ["status", "status --json"],
  args: z.object({}),
  json: View,
  async run({ client, out }) {
    const state = await client.state();
    const view = {
      nodes: nodesOf(state),
      links: linksOf(state),
      metaInstances: Object.values(state.metaInstances).map(summarizeMeta),
      instances: summaries(state),
      tasks: tasksOf(state),
    };
    out.result(view, words(view));
  },
});

function nodesOf(state: StateView) {
  return Object.entries(state.nodeIdentities).map(([nodeId, { friendlyName, exoVersion }]) => {
    const memory = state.nodeMemory[nodeId];
    return {
      nodeId,
      name: friendlyName,
      version: exoVersion,
      isMaster: state.session?.masterNodeId === nodeId,
      backends: state.nodeBackends[nodeId] ?? [],
      ramTotalBytes: memory?.ramTotal.inBytes ?? null,
      ramAvailableBytes: memory?.ramAvailable.inBytes ?? null,
    };
  });
}

function linksOf({ topology }: StateView): z.infer<typeof LinkView>[] {
  return Object.entries(topology.connections).flatMap(([source, sinks]) =>
    Object.entries(sinks).flatMap(([sink, edges]) =>
      edges.map((edge) => ({ source, sink, ...linkOf(edge) }))
    )
  );
}

function linkOf({ sinkMultiaddr, sourceRdmaIface, sinkRdmaIface, ...quality }: EdgeView) {
  return sinkMultiaddr
    ? { kind: "socket" as const, address: sinkMultiaddr.address, ...quality }
    : { kind: "rdma" as const, address: `${sourceRdmaIface} > ${sinkRdmaIface}`, ...quality };
}

const TaskInside = z.object({
  taskId: z.string(),
  instanceId: z.string(),
  modelId: z.string(),
  taskStatus: z.string(),
});

function tasksOf(state: StateView) {
  return Object.values(state.tasks).flatMap((tagged) =>
    Object.entries(tagged).map(([type, inside]) => {
      const { taskStatus, ...task } = TaskInside.parse(inside);
      return { ...task, type, status: taskStatus };
    })
  );
}

function words({ nodes, links, metaInstances, instances, tasks }: View): string {
  const nodeRows = nodes.map((node) => [
    node.nodeId,
    node.name + (node.isMaster ? " (master)" : ""),
    node.backends.join(", "),
    node.ramTotalBytes === null || node.ramAvailableBytes === null
      ? "unknown"
      : `${formatBytes(node.ramAvailableBytes)} free of ${formatBytes(node.ramTotalBytes)}`,
  ]);
  const instanceRows = instances.map((instance) => {
    const { instanceId, modelId, lastError, stats } = instance;
    return [instanceId, modelId, statusWords(instance), ...statsCells(stats), lastError ?? ""];
  });
  const instanceHead = ["INSTANCE", "MODEL", "STATUS", ...STATS_HEAD, "LAST ERROR"];
  // The widest of all, for which there is mostly nothing to say.
  const hasError = instances.some(({ lastError }) => lastError !== undefined);
  const columns = hasError ? instanceHead.length : instanceHead.length - 1;
  const names = new Map(nodes.map(({ nodeId, name }) => [nodeId, name]));
  const linkRows = links.map((link) => [
    names.get(link.source) ?? link.source,
    names.get(link.sink) ?? link.sink,
    link.kind,
    link.address,
    link.bandwidthBitsPerSecond === undefined ? "-" : formatBits(link.bandwidthBitsPerSecond),
    link.latencyMs === undefined ? "-" : `${link.latencyMs.toFixed(1)} ms`,
  ]);
  const taskRows = tasks.map(({ taskId, modelId, status }) => [taskId, modelId, status]);
  return [
    section(["NODE", "NAME", "BACKENDS", "MEMORY"], nodeRows, "No nodes"),
    // One node has nobody to be linked with, and most have declared nothing.
    ...(nodes.length > 1 ? [section(LINK_HEAD, linkRows, "No links")] : []),
    ...(metaInstances.length > 0 ? [metaTable(metaInstances)] : []),
    section(
      instanceHead.slice(0, columns),
      instanceRows.map((row) => row.slice(0, columns)),
      "No instances",
    ),
    section(["TASK", "MODEL", "STATUS"], taskRows, "No tasks"),
  ].join("\n\n");
}

const LINK_HEAD = ["FROM", "TO", "KIND", "ADDRESS", "BANDWIDTH", "LATENCY"];

/** A speed in decimal units, as those of links are told. */
function formatBits(bitsPerSecond: number): string {
  return bitsPerSecond >= 1e9
    ? `${(bitsPerSecond / 1e9).toFixed(1)} Gbit/s`
    : `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
}

function section(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  none: string,
): string {
  return rows.length > 0 ? table(head, rows) : none;
}

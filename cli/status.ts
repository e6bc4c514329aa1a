import { z } from "zod";
import type { StateView } from "../api/client.ts";
import { formatBytes } from "../core/units.ts";
import { defineCommand } from "./command.ts";
import { STATS_HEAD, statsCells } from "./instance_stats.ts";
import { InstanceSummary, statusWords, summaries } from "./instance_view.ts";
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

const TaskView = z.strictObject({
  taskId: z.string().describe("Id of the task"),
  type: z.string().describe("Such as `TextGeneration`"),
  instanceId: z.string().describe("Instance that does it"),
  modelId: z.string().describe("Model that was asked for"),
  status: z.string().describe("`Pending`, `Running`, `Complete`, `Failed` or `Cancelled`"),
});

const View = z.strictObject({
  nodes: z.array(NodeView).readonly().describe("Nodes of the cluster"),
  instances: z.array(InstanceSummary).readonly().describe("Models that are placed"),
  tasks: z.array(TaskView).readonly().describe("What is asked of them now"),
});
type View = z.infer<typeof View>;

/** `exo status`. */
export const status = defineCommand({
  name: "status",
  summary: "Show nodes, memory, instances and tasks",
  example: ["status", "status --json"],
  args: z.object({}),
  json: View,
  async run({ client, out }) {
    const state = await client.state();
    const view = { nodes: nodesOf(state), instances: summaries(state), tasks: tasksOf(state) };
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

function words({ nodes, instances, tasks }: View): string {
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
  const taskRows = tasks.map(({ taskId, modelId, status }) => [taskId, modelId, status]);
  return [
    section(["NODE", "NAME", "BACKENDS", "MEMORY"], nodeRows, "No nodes"),
    section(
      instanceHead.slice(0, columns),
      instanceRows.map((row) => row.slice(0, columns)),
      "No instances",
    ),
    section(["TASK", "MODEL", "STATUS"], taskRows, "No tasks"),
  ].join("\n\n");
}

function section(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  none: string,
): string {
  return rows.length > 0 ? table(head, rows) : none;
}

import { z } from "zod";
import type { StateView } from "../api/client.ts";
import { formatBytes } from "../core/units.ts";
import { defineCommand } from "./command.ts";
import { summaries } from "./instance_view.ts";
import { table } from "./output.ts";

/** `exo status`. */
export const status = defineCommand({
  name: "status",
  summary: "Show nodes, memory, instances and tasks",
  example: ["status", "status --json"],
  args: z.object({}),
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

function tasksOf(state: StateView) {
  return Object.values(state.tasks).flatMap((tagged) =>
    Object.entries(tagged).map(([type, inside]) => {
      const { taskId, instanceId, modelId, taskStatus } = inside as Record<string, string>;
      return { taskId, type, instanceId, modelId, status: taskStatus };
    })
  );
}

interface View {
  readonly nodes: ReturnType<typeof nodesOf>;
  readonly instances: ReturnType<typeof summaries>;
  readonly tasks: ReturnType<typeof tasksOf>;
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
  const instanceRows = instances.map(({ instanceId, modelId, status, lastError }) => [
    instanceId,
    modelId,
    lastError === undefined ? status : `${status}: ${lastError}`,
  ]);
  const taskRows = tasks.map((task) => [task.taskId ?? "", task.modelId ?? "", task.status ?? ""]);
  return [
    section(["NODE", "NAME", "BACKENDS", "MEMORY"], nodeRows, "No nodes"),
    section(["INSTANCE", "MODEL", "STATUS"], instanceRows, "No instances"),
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

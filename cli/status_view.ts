import { z } from "zod";
import type { StateView } from "../api/client.ts";
import { formatBytes } from "../core/units.ts";
import { STATS_HEAD, statsCells } from "./instance_stats.ts";
import { InstanceSummary, placeWords, statusWords, summaries } from "./instance_view.ts";
import { LINK_HEAD, linkCells, linkRemarks, linksOf, LinkView } from "./link_view.ts";
import { MetaInstanceSummary, metaTable, summarizeMeta } from "./meta_instance_view.ts";
import { distinctNames } from "./node_names.ts";
import { table } from "./output.ts";

/** Most interfaces that the table of nodes shows of one. */
const INTERFACES_SHOWN = 2;

/** Addresses of this machine for itself, or for one cable: loopback and link-local IPv6. */
const NEAR = /^(127\.|::1$|fe80:)/i;

/** What a machine says that does not know. */
const UNKNOWN = "Unknown";

const Interface = z.strictObject({
  name: z.string().describe("As the system calls it"),
  ipAddress: z.string().describe("One of its addresses"),
  type: z.string().describe("Such as `ethernet`, `wifi` or `thunderbolt`"),
});

const NodeView = z.strictObject({
  nodeId: z.string().describe("Id of the node"),
  name: z.string().describe("Friendly name"),
  version: z.string().describe("Version of exo that it runs"),
  isMaster: z.boolean().describe("Whether it decides for the cluster"),
  isWorker: z.boolean().describe("Whether it computes"),
  machine: z.string().nullable().describe("Model or processor of the machine; null when unknown"),
  interfaces: z.array(Interface).readonly().describe("Its addresses that lead beyond one link"),
  backends: z.array(z.string()).readonly().describe("What it computes with, such as `MlxCpu`"),
  ramTotalBytes: z.number().int().nullable().describe("Memory; null when unknown"),
  ramAvailableBytes: z.number().int().nullable().describe("Of it, free; null when unknown"),
});
type NodeView = z.infer<typeof NodeView>;

const TaskView = z.strictObject({
  taskId: z.string().describe("Id of the task"),
  type: z.string().describe("Such as `TextGeneration`"),
  instanceId: z.string().describe("Instance that does it"),
  modelId: z.string().describe("Model that was asked for"),
  status: z.string().describe("`Pending`, `Running`, `Complete`, `Failed` or `Cancelled`"),
});

/** All that `exo status` tells. */
export const StatusView = z.strictObject({
  nodes: z.array(NodeView).readonly().describe("Nodes of the cluster"),
  links: z.array(LinkView).readonly().describe("How nodes reach each other"),
  metaInstances: z.array(MetaInstanceSummary).readonly().describe("What is kept running"),
  instances: z.array(InstanceSummary).readonly().describe("Models that are placed"),
  tasks: z.array(TaskView).readonly().describe("What is asked of them now"),
});
export type StatusView = z.infer<typeof StatusView>;

/** The state as `exo status` tells it. */
export function statusOf(state: StateView): StatusView {
  return {
    nodes: nodesOf(state),
    links: linksOf(state),
    metaInstances: Object.values(state.metaInstances).map(summarizeMeta),
    instances: summaries(state),
    tasks: tasksOf(state),
  };
}

function nodesOf(state: StateView): NodeView[] {
  return Object.entries(state.nodeIdentities).map(([nodeId, identity]) => {
    const memory = state.nodeMemory[nodeId];
    const backends = state.nodeBackends[nodeId] ?? [];
    return {
      nodeId,
      name: identity.friendlyName,
      version: identity.exoVersion,
      isMaster: state.session?.masterNodeId === nodeId,
      isWorker: backends.length > 0,
      machine: [identity.modelId, identity.chipId].find((one) => one !== UNKNOWN) ?? null,
      interfaces: interfacesOf(state, nodeId),
      backends,
      ramTotalBytes: memory?.ramTotal.inBytes ?? null,
      ramAvailableBytes: memory?.ramAvailable.inBytes ?? null,
    };
  });
}

function interfacesOf({ nodeNetwork }: StateView, nodeId: string): z.infer<typeof Interface>[] {
  return (nodeNetwork[nodeId]?.interfaces ?? [])
    .filter(({ ipAddress }) => !NEAR.test(ipAddress))
    .map(({ name, ipAddress, interfaceType: type }) => ({ name, ipAddress, type }));
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

/** The same in words. */
export function statusText({ nodes, links, metaInstances, instances, tasks }: StatusView): string {
  const names = distinctNames(nodes.map(({ nodeId, name }) => [nodeId, name]));
  const taskRows = tasks.map(({ taskId, modelId, status }) => [taskId, modelId, status]);
  return [
    section(NODE_HEAD, nodes.map(nodeCells), "No nodes"),
    // One node has nobody to be linked with, and most have declared nothing.
    ...(nodes.length > 1 ? [linksText(links, names)] : []),
    ...(metaInstances.length > 0 ? [metaTable(metaInstances)] : []),
    instancesText(instances, nodes.length > 1 ? names : undefined),
    section(["TASK", "MODEL", "STATUS"], taskRows, "No tasks"),
  ].join("\n\n");
}

const NODE_HEAD = ["NODE", "NAME", "ROLES", "MACHINE", "NETWORK", "BACKENDS", "MEMORY"];

function nodeCells(node: NodeView): string[] {
  const { nodeId, name, isMaster, isWorker, machine, interfaces, backends } = node;
  const roles = [...(isMaster ? ["master"] : []), ...(isWorker ? ["worker"] : [])];
  const shown = interfaces.slice(0, INTERFACES_SHOWN)
    .map(({ type, ipAddress }) =>
      type === "unknown" ? ipAddress : `${ipAddress} (${type.replace("maybe_", "")})`
    );
  const rest = interfaces.length - shown.length;
  return [
    nodeId,
    name,
    roles.join(", ") || "-",
    machine ?? "-",
    [...shown, ...(rest > 0 ? [`${rest} more`] : [])].join(", ") || "-",
    backends.join(", ") || "-",
    node.ramTotalBytes === null || node.ramAvailableBytes === null
      ? "unknown"
      : `${formatBytes(node.ramAvailableBytes)} free of ${formatBytes(node.ramTotalBytes)}`,
  ];
}

function linksText(links: readonly LinkView[], names: ReadonlyMap<string, string>): string {
  const rows = links.map((link) => linkCells(link, names));
  return [section(LINK_HEAD, rows, "No links"), ...linkRemarks(links, names)].join("\n");
}

/** `names`: of the nodes, where there is more than one on which an instance may be. */
function instancesText(
  instances: StatusView["instances"],
  names: ReadonlyMap<string, string> | undefined,
): string {
  const rows = instances.map((instance) => {
    const { instanceId, modelId, lastError, stats } = instance;
    const where = names ? [placeWords(instance, names)] : [];
    const cells = [instanceId, modelId, ...where, statusWords(instance)];
    return [...cells, ...statsCells(stats), lastError ?? ""];
  });
  const where = names ? ["NODES"] : [];
  const head = ["INSTANCE", "MODEL", ...where, "STATUS", ...STATS_HEAD, "LAST ERROR"];
  // The widest of all, for which there is mostly nothing to say.
  const hasError = instances.some(({ lastError }) => lastError !== undefined);
  const columns = hasError ? head.length : head.length - 1;
  return section(head.slice(0, columns), rows.map((row) => row.slice(0, columns)), "No instances");
}

function section(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  none: string,
): string {
  return rows.length > 0 ? table(head, rows) : none;
}

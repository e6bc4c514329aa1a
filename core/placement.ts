import type { PlacementRequest } from "./placement_request.ts";
import type { ErrorCode } from "./errors.ts";
import { type InstanceId, NodeId, runnerIdOf } from "./ids.ts";
import type { Instance } from "./instance.ts";
import { freeBytes, neededBytes } from "./memory_fit.ts";
import type { Backend, ModelCard } from "./model_card.ts";
import type { Telemetry } from "./telemetry.ts";
import { remedy } from "./placement_remedy.ts";
import type { State } from "./state.ts";
import { formatBytes } from "./units.ts";

/** Backends that can form a ring. */
const RING_BACKENDS: readonly Backend[] = ["MlxMetal", "MlxCuda", "MlxCpu"];

/** Why some nodes were not taken. */
export interface Rejection {
  readonly nodeIds: readonly NodeId[];
  readonly reason: string;
}

/** An instance and the bytes that it takes, or why there is none. */
export type Placement =
  | {
    readonly ok: true;
    readonly instance: Instance;
    readonly memoryBytesByNode: ReadonlyMap<NodeId, number>;
  }
  | Refusal;

/** Why nothing could be placed, and what to do about it. */
export interface Refusal {
  readonly ok: false;
  readonly code: Extract<ErrorCode, "placement_failed" | "unsupported_parameter">;
  readonly reason: string;
  readonly hint: string;
  readonly rejected: readonly Rejection[];
}

/**
 * Where a model goes: one node for now, the one with the most free memory among those that fit.
 * Pure; memory is a latest value and comes as an argument.
 */
export function place(
  state: State,
  telemetry: Telemetry,
  { instanceId, card, request }: {
    instanceId: InstanceId;
    card: ModelCard;
    request: PlacementRequest;
  },
): Placement {
  const refused = refuse(state, card, request);
  if (refused) return { ok: false, code: "unsupported_parameter", ...refused, rejected: [] };
  const needed = neededBytes(card, request.config);
  const rejected: Rejection[] = [];
  let best: { nodeId: NodeId; free: number } | undefined;
  for (const [nodeId, node] of state.nodes) {
    const wanted = request.nodeIds?.[0];
    if (wanted !== undefined && wanted !== nodeId) continue;
    const free = freeBytes(state, telemetry.memory, nodeId);
    const reason = unfit({ nodeId, backends: node.info.backends, free }, card, needed);
    if (reason) rejected.push({ nodeIds: [nodeId], reason });
    else if (free !== undefined && (!best || free > best.free)) best = { nodeId, free };
  }
  if (!best) {
    const reasons = rejected.map(({ reason }) => reason).join("; ");
    const reason = `Cannot place "${card.modelId}": ${reasons || "the cluster has no nodes"}`;
    const hint = remedy(state, telemetry.memory, { ...request, card, needed });
    return { ok: false, code: "placement_failed", reason, hint, rejected };
  }
  const instance = singleNode(instanceId, best.nodeId, card, request);
  return { ok: true, instance, memoryBytesByNode: new Map([[best.nodeId, needed]]) };
}

/** The hint about an option, by its names in a request and on the command line. */
function leaveOut(name: string, flag: string): string {
  return `leave ${name} (--${flag}) out: this version places a model on one node`;
}

/** What no choice of nodes could mend. */
function refuse(
  state: State,
  card: ModelCard,
  request: PlacementRequest,
): { reason: string; hint: string } | undefined {
  const wanted = `Cannot place "${card.modelId}"`;
  const { minNodes, instanceMeta, sharding, nodeIds = [], config } = request;
  if (minNodes > 1) {
    const hint = leaveOut("min_nodes", "min-nodes");
    return { reason: `${wanted} on ${minNodes} nodes, one possible`, hint };
  }
  if (instanceMeta !== "MlxRing") {
    const hint = leaveOut("instance_meta", "transport");
    return { reason: `${wanted} with ${instanceMeta}, MlxRing needed`, hint };
  }
  if (sharding !== "Pipeline") {
    const hint = leaveOut("sharding", "sharding");
    return { reason: `${wanted} with ${sharding} sharding, Pipeline needed`, hint };
  }
  if (nodeIds.length > 1) {
    const hint = `name one node in node_ids (--node), such as ${nodeIds[0]}`;
    return { reason: `${wanted} on ${nodeIds.length} given nodes, one possible`, hint };
  }
  const unknown = nodeIds.find((id) => !state.nodes.has(id));
  if (unknown !== undefined) {
    const hint = `known nodes: ${[...state.nodes.keys()].join(", ") || "none"}`;
    return { reason: `${wanted} on node ${unknown}: it is not known, a known one needed`, hint };
  }
  const context = config?.contextTokens ?? 0;
  if (card.contextLength > 0 && context > card.contextLength) {
    const limit = `${card.contextLength} at most possible`;
    const reason = `${wanted} with a context of ${context} tokens: ${limit}`;
    return { reason, hint: `exo instance create ${card.modelId} --context ${card.contextLength}` };
  }
  return undefined;
}

/** Why an instance of one node cannot run where it says; undefined when it can. */
export function misfit(
  state: State,
  telemetry: Telemetry,
  { nodeId, card, config }: { nodeId: NodeId; card: ModelCard; config: Instance["config"] },
): string | undefined {
  const backends = state.nodes.get(nodeId)?.info.backends ?? [];
  const free = freeBytes(state, telemetry.memory, nodeId);
  return unfit({ nodeId, backends, free }, card, neededBytes(card, config));
}

function unfit(
  node: { nodeId: NodeId; backends: readonly Backend[]; free: number | undefined },
  card: ModelCard,
  needed: number,
): string | undefined {
  const usable = card.backends.filter((backend) => RING_BACKENDS.includes(backend));
  if (!node.backends.some((backend) => usable.includes(backend))) {
    const has = node.backends.join(", ") || "none";
    return `node ${node.nodeId} has backends ${has}, one of ${usable.join(", ")} needed`;
  }
  if (node.free === undefined) return `node ${node.nodeId} has not reported its memory`;
  if (node.free < needed) {
    return `node ${node.nodeId} has ${formatBytes(node.free)} free, ${formatBytes(needed)} needed`;
  }
  return undefined;
}

function singleNode(
  instanceId: InstanceId,
  nodeId: NodeId,
  card: ModelCard,
  request: PlacementRequest,
): Instance {
  const runnerId = runnerIdOf(instanceId, 0);
  const shard = {
    type: "PipelineShardMetadata" as const,
    modelCard: card,
    deviceRank: 0,
    worldSize: 1,
    startLayer: 0,
    endLayer: card.nLayers,
    nLayers: card.nLayers,
  };
  return {
    type: "MlxRingInstance",
    instanceId,
    shardAssignments: {
      modelId: card.modelId,
      runnerToShard: { [runnerId]: shard },
      nodeToRunner: { [nodeId]: runnerId },
    },
    hostsByNode: {},
    ...(request.config ? { config: request.config } : {}),
  };
}

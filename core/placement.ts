import { type Assignment, jacclInstance, listeningIps, ringInstance } from "./assignment.ts";
import type { Candidate } from "./block_search.ts";
import { assert, type ErrorCode } from "./errors.ts";
import type { Found } from "./candidates.ts";
import type { InstanceId, MetaInstanceId, NodeId } from "./ids.ts";
import {
  type Instance,
  type InstanceConfig,
  type InstanceMeta,
  type Shard,
  type Sharding,
} from "./instance.ts";
import { bytesByNode, contextReserved, neededBytes, shardBytes } from "./memory_fit.ts";
import { listed } from "./listed.ts";
import type { ModelCard } from "./model_card.ts";
import { withoutFiles } from "./placement_files.ts";
import { PlacementRequest } from "./placement_request.ts";
import {
  contradiction,
  explain,
  type Reason,
  shortage,
  unknownPin,
  unusableBackends,
} from "./placement_refusal.ts";
import { ALL_CONSTRAINTS, type Constraint, idsOf, search } from "./placement_search.ts";
import { type NodeView, type PlacementView, viewOf } from "./placement_view.ts";
import { freePortCount, INSTANCE_PORTS, portsInUse, portsNeeded } from "./ports.ts";
import { shardsOf } from "./shards.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** Why some nodes were not taken. */
export interface Rejection {
  readonly reason: string;
  /** One node that cannot take the model alone, or several that cannot together. */
  readonly nodeIds: readonly NodeId[];
  readonly sharding: Sharding;
  readonly instanceMeta: InstanceMeta;
}

/** A node that would be given more than it has free: only where that was forced. */
export interface Shortage {
  readonly nodeId: NodeId;
  readonly neededBytes: number;
  /** 0 where the node has not reported its memory. */
  readonly freeBytes: number;
}

/** The layers of a node, by rank. */
export interface PlacedShard {
  readonly nodeId: NodeId;
  readonly startLayer: number;
  readonly endLayer: number;
  readonly deviceRank: number;
}

/** An instance, and what is to be said about it. */
export interface Placed {
  readonly ok: true;
  readonly instance: Instance;
  /** By rank. */
  readonly nodeIds: readonly NodeId[];
  readonly shards: readonly PlacedShard[];
  /** Weights and KV of each node's shard. */
  readonly memoryBytesByNode: ReadonlyMap<NodeId, number>;
  /** Tokens for which KV is reserved: those asked for, or a default. */
  readonly contextTokens: number;
  /** What it is: a single node is a ring with a pipeline, whatever was asked for. */
  readonly sharding: Sharding;
  readonly instanceMeta: InstanceMeta;
  /** Whether that is not what was asked for. */
  readonly isCoerced: boolean;
  /** Empty unless `force` was needed. */
  readonly shortages: readonly Shortage[];
  /** Whether a better choice may have been missed: there were too many to look at all. */
  readonly isExhausted: boolean;
}

/** Why nothing could be placed, and what to do about it. */
export interface Refusal {
  readonly ok: false;
  /** `unsupported_parameter`: no choice of nodes, now or later, could do. */
  readonly code: Extract<ErrorCode, "placement_failed" | "unsupported_parameter">;
  readonly reason: string;
  readonly hint: string;
  readonly rejected: readonly Rejection[];
}

/** Where a model goes, or why it has no place. */
export type Placement = Placed | Refusal;

/** What is to be placed. */
export interface PlaceOptions {
  readonly instanceId: InstanceId;
  readonly card: ModelCard;
  readonly request: PlacementRequest;
  /** The wish that it is made for. */
  readonly metaInstanceId?: MetaInstanceId | undefined;
}

/**
 * Where a model goes: the best nodes that have room for its weights and for the KV of the context
 * it is promised, and that can talk to each other as asked (spec §3). Pure: the same cluster and
 * request give the same instance, on every node.
 */
export function place(state: State, telemetry: Telemetry, options: PlaceOptions): Placement {
  const { card, request } = options;
  const view = viewOf(state, telemetry, { card, request });
  const contradicted = contradiction(card, request, view.usable);
  if (contradicted) return refusal(view, "unsupported_parameter", contradicted);
  const unknown = unknownPin(state, request);
  if (unknown) return refusal(view, "placement_failed", unknown);
  const found = search(view);
  const { best, isExhausted } = found.best ? found : forcedOnto(view);
  if (best) {
    const unmet = noPortLeft(state, view, best);
    if (unmet) return refusal(view, "placement_failed", unmet);
    return placedOn(state, view, { ...options, best, isExhausted });
  }
  const why = explain(state, telemetry, view);
  const rejected = [...rejectedNodes(view), ...rejectedSets(view, why)];
  return { ...refusal(view, "placement_failed", { ...why, reason: `: ${why.reason}` }), rejected };
}

/** Why ranks of these nodes cannot meet; undefined while there are ports where they can. */
export function noPortLeft(
  state: State,
  view: PlacementView,
  { order }: Candidate,
): Pick<Reason, "reason" | "hint"> | undefined {
  if (order.length === 1) return undefined;
  const { network, request: { modelId, instanceMeta, ringPorts = INSTANCE_PORTS } } = view;
  const ips = listeningIps(network, idsOf(view, order), instanceMeta);
  const [needed, free] = [portsNeeded(ips), freePortCount(ringPorts, portsInUse(state))];
  if (free >= needed) return undefined;
  const range = `from ${ringPorts.from} to ${ringPorts.to}`;
  const found = free === 0 ? `every port ${range} in use` : `${free} free of the ports ${range}`;
  const crowd = ips.find((ip) => ips.filter((one) => one === ip).length === needed);
  const names = order.filter((_, rank) => ips[rank] === crowd)
    .map((at) => (view.nodes[at] as NodeView).name);
  const why = names.length < needed ? " with RDMA" : `: ${listed(names, ", ")} share a host`;
  const what = needed === 1 ? "a free one needed" : `${needed} needed${why}`;
  return {
    reason: `on several nodes: found ${found}, ${what}`,
    hint: "exo instance delete frees those of an instance that nobody needs; " +
      `exo serve --ring-ports takes a wider range for ${modelId}`,
  };
}

/** The nodes that lack the least memory, where that was asked for. */
export function forcedOnto(view: PlacementView): Found {
  if (!view.request.force) return { best: undefined, isExhausted: false };
  return search(view, WITHOUT_MEMORY, { prefer: "roomiest" });
}

const WITHOUT_MEMORY: ReadonlySet<Constraint> = new Set(
  [...ALL_CONSTRAINTS].filter((one) => one !== "memory"),
);

function refusal(
  { card }: PlacementView,
  code: Refusal["code"],
  { reason, hint }: Pick<Reason, "reason" | "hint">,
): Refusal {
  const glue = reason.startsWith(":") ? "" : " ";
  return {
    ok: false,
    code,
    reason: `Cannot place "${card.modelId}"${glue}${reason}`,
    hint,
    rejected: [],
  };
}

/** The nodes that cannot take the model alone. */
export function rejectedNodes(view: PlacementView): Rejection[] {
  const { sharding, instanceMeta } = view.request;
  return view.nodes.flatMap((node) => {
    const reason = unfit(node, view);
    return reason === undefined ? [] : [{ reason, nodeIds: [node.nodeId], sharding, instanceMeta }];
  });
}

/** The best choice of several nodes that does not do. */
export function rejectedSets({ request }: PlacementView, { nodeIds, reason }: Reason): Rejection[] {
  const { sharding, instanceMeta } = request;
  return nodeIds.length > 1 ? [{ reason, nodeIds, sharding, instanceMeta }] : [];
}

function unfit(node: NodeView, view: PlacementView): string | undefined {
  const { usable, needed } = view;
  if (node.free === undefined) return `node ${node.name} has not reported its memory`;
  return withoutFiles(node) ?? unusableBackends(node, usable) ?? shortage(node, needed);
}

/** The instance on some nodes that were found. */
export function placedOn(
  state: State,
  view: PlacementView,
  { instanceId, metaInstanceId, card, request, best, isExhausted }: PlaceOptions & {
    best: Candidate;
    isExhausted: boolean;
  },
): Placed {
  const nodes = best.order.map((at) => view.nodes[at] as NodeView);
  const isSingle = nodes.length === 1;
  const sharding = isSingle ? "Pipeline" : request.sharding;
  const instanceMeta = isSingle ? "MlxRing" : request.instanceMeta;
  const { nodeLayers, config, ringPorts, force: isForced } = request;
  const divided = shardsOf(card, {
    sharding,
    bytes: view.needed,
    free: nodes.map(({ free = 0 }) => free),
    names: nodes.map(({ name }) => name),
    layers: nodeLayers && nodes.map(({ nodeId }) => nodeLayers[nodeId] as number),
    isForced,
  });
  assert(divided.ok, "nodes that were found have room for their shards");
  const nodeIds = idsOf(view, best.order);
  const assignment: Assignment = {
    ...{ instanceId, metaInstanceId, config, nodeIds, shards: divided.shards },
    network: view.network,
    usedPorts: portsInUse(state),
    ports: ringPorts,
  };
  const build = instanceMeta === "MlxRing" ? ringInstance : jacclInstance;
  const instance = build(assignment);
  assert(instance, "nodes that were found are linked");
  const memoryBytesByNode = bytesByNode(instance);
  return {
    ok: true,
    ...{ instance, nodeIds, memoryBytesByNode, sharding, instanceMeta, isExhausted },
    shards: nodeIds.map((nodeId, rank) => {
      const { startLayer, endLayer, deviceRank } = divided.shards[rank] as Shard;
      return { nodeId, startLayer, endLayer, deviceRank };
    }),
    contextTokens: contextReserved(card, config),
    isCoerced: sharding !== request.sharding || instanceMeta !== request.instanceMeta,
    shortages: nodes.flatMap(({ nodeId, free = 0 }) => {
      const bytes = memoryBytesByNode.get(nodeId) as number;
      return bytes > free ? [{ nodeId, neededBytes: bytes, freeBytes: free }] : [];
    }),
  };
}

/**
 * Why a rank cannot run where an instance says; undefined when it can. Without a shard the whole
 * model is meant.
 */
export function misfit(
  state: State,
  telemetry: Telemetry,
  { nodeId, card, config, shard, instanceMeta = "MlxRing" }: {
    readonly nodeId: NodeId;
    readonly card: ModelCard;
    readonly config?: InstanceConfig | undefined;
    readonly shard?: Shard | undefined;
    readonly instanceMeta?: InstanceMeta;
  },
): string | undefined {
  const request = PlacementRequest.parse({ modelId: card.modelId, instanceMeta, config });
  const view = viewOf(state, telemetry, { card, request });
  const node = view.nodes.find((one) => one.nodeId === nodeId);
  if (!node) return `node ${nodeId} is not known, a known one needed`;
  const needed = shard
    ? shardBytes({ ...shard, modelCard: card }, config)
    : neededBytes(card, config);
  return unfit(node, { ...view, needed });
}

/** What to do about an instance that does not fit on the nodes that it names. */
export function placementHint(
  state: State,
  telemetry: Telemetry,
  { card, nodeIds, config }: {
    readonly card: ModelCard;
    readonly nodeIds: readonly NodeId[];
    readonly config?: InstanceConfig | undefined;
  },
): string {
  const request = PlacementRequest.parse({ modelId: card.modelId, nodeIds, exact: true, config });
  const view = viewOf(state, telemetry, { card, request });
  if (search(view).best) return `let exo divide it: exo instance create ${card.modelId}`;
  return explain(state, telemetry, view).hint;
}

import { bytesOfLayers } from "./apportion.ts";
import type { NodeId } from "./ids.ts";
import { type Instance, type InstanceConfig, rankOn, type Shard } from "./instance.ts";
import type { ModelCard } from "./model_card.ts";
import type { NodeState } from "./node_info.ts";
import type { NodeMemory } from "./telemetry.ts";
import type { State } from "./state.ts";

/** Tokens of KV that the fit reserves when nobody names a context (design, rulings). */
export const CONTEXT_TOKENS_DEFAULT = 8_192;

/** Tokens that a sequence holds beside its window: a step's, and those of blocks used in part. */
const TOKENS_BESIDE_WINDOW = 1_024;

/** Bits that the scales of quantised keys and values add to each: 32 for a group of 32, at most. */
const KV_SCALE_BITS = 1;

/** Bits of a key or value by which `kvBytesPerToken` of a card counts. */
const KV_CARD_BITS = 32;

/** The part of an instance's configuration that memory depends on. */
export type MemoryConfig = Pick<InstanceConfig, "contextTokens" | "kvBits">;

/** Weights plus KV for the context that the instance is promised, over all ranks. */
export function neededBytes(card: ModelCard, config: MemoryConfig = {}): number {
  return card.storageSize.inBytes + kvBytes(card, config);
}

/** KV for the context that the instance is promised, over all ranks. */
export function kvBytes(card: ModelCard, config: MemoryConfig = {}): number {
  const context = contextReserved(card, config);
  const held = Math.min(context, (card.slidingWindow ?? Infinity) + TOKENS_BESIDE_WINDOW);
  return Math.ceil(held * kvBytesOf(card, config));
}

/** Tokens for which KV is reserved: those asked for, else the model's, up to a default. */
export function contextReserved({ contextLength }: ModelCard, config: MemoryConfig = {}): number {
  return config.contextTokens ??
    Math.min(contextLength || CONTEXT_TOKENS_DEFAULT, CONTEXT_TOKENS_DEFAULT);
}

/** KV of one token. */
export function kvBytesOf({ kvBytesPerToken = 0 }: ModelCard, { kvBits }: MemoryConfig): number {
  if (kvBits === undefined) return kvBytesPerToken;
  return kvBytesPerToken * (kvBits + KV_SCALE_BITS) / KV_CARD_BITS;
}

/** Weights plus KV that one rank takes of its node. */
export function shardBytes(shard: Shard, config: MemoryConfig = {}): number {
  return shareOf(shard, neededBytes(shard.modelCard, config));
}

/** The KV of one rank. */
export function shardKvBytes(shard: Shard, config: MemoryConfig = {}): number {
  return shareOf(shard, kvBytes(shard.modelCard, config));
}

/** What one rank of some has of bytes that are spread over all layers. */
export function shareOf(
  shard: Pick<Shard, "type" | "startLayer" | "endLayer" | "nLayers" | "worldSize">,
  bytes: number,
): number {
  if (shard.type === "TensorShardMetadata") return Math.ceil(bytes / shard.worldSize);
  return bytesOfLayers(shard.endLayer - shard.startLayer, { nLayers: shard.nLayers, bytes });
}

/** What an instance takes of each of its nodes. */
export function bytesByNode(instance: Instance): ReadonlyMap<NodeId, number> {
  const nodeIds = Object.keys(instance.shardAssignments.nodeToRunner) as NodeId[];
  return new Map(nodeIds.flatMap((nodeId) => {
    const rank = rankOn(instance, nodeId);
    return rank ? [[nodeId, shardBytes(rank.shard, instance.config)] as const] : [];
  }));
}

/**
 * Memory that models may take of a node: where it computes on a GPU that has its own, only that
 * counts, for host memory is of no use there (spec §5).
 */
export function availableForModels(node: NodeState | undefined, memory: NodeMemory): number {
  const isCuda = node?.info.backends.includes("MlxCuda") === true;
  return isCuda && memory.gpu ? memory.gpu.availableBytes : memory.ramAvailableBytes;
}

/** The same memory with more of it free, whichever the weights were in. */
function withAvailable(memory: NodeMemory, moreBytes: number): NodeMemory {
  const ramAvailableBytes = memory.ramAvailableBytes + moreBytes;
  const { gpu } = memory;
  if (!gpu) return { ...memory, ramAvailableBytes };
  const availableBytes = gpu.availableBytes + moreBytes;
  return { ...memory, ramAvailableBytes, gpu: { ...gpu, availableBytes } };
}

/**
 * Free memory of each node less what is promised to instances, so that no two placements book the
 * same bytes: a rank's weights until they are in memory, its KV always, since a cache grows and
 * shrinks with each request. Nodes that have not reported are absent.
 */
export function freeBytes(
  state: State,
  memory: ReadonlyMap<NodeId, NodeMemory>,
): Map<NodeId, number> {
  const free = new Map<NodeId, number>();
  for (const [nodeId, node] of state.nodes) {
    const reported = memory.get(nodeId);
    if (reported) free.set(nodeId, availableForModels(node, reported));
  }
  for (const instance of state.instances.values()) {
    for (const nodeId of Object.keys(instance.shardAssignments.nodeToRunner) as NodeId[]) {
      const left = free.get(nodeId);
      if (left === undefined) continue;
      free.set(nodeId, left - promisedBytes(instance, nodeId, memory.get(nodeId)));
    }
  }
  for (const [nodeId, left] of free) free.set(nodeId, Math.max(0, left));
  return free;
}

/** What would be free on each node without an instance: its promises gone, its weights freed. */
export function freeBytesWithout(
  instance: Instance,
  state: State,
  memory: ReadonlyMap<NodeId, NodeMemory>,
): Map<NodeId, number> {
  const freed = new Map(memory);
  for (const [nodeId, bytes] of bytesByNode(instance)) {
    const reported = memory.get(nodeId);
    if (!reported) continue;
    const weightBytes = bytes - promisedBytes(instance, nodeId, reported);
    freed.set(nodeId, withAvailable(reported, weightBytes));
  }
  const instances = new Map(state.instances);
  instances.delete(instance.instanceId);
  return freeBytes({ ...state, instances }, freed);
}

/**
 * What an instance may still take of a node beyond what it had taken when the node was measured:
 * the same moment for both, or bytes would be booked twice while a runner loads.
 */
function promisedBytes(
  instance: Instance,
  nodeId: NodeId,
  measured: NodeMemory | undefined,
): number {
  const rank = rankOn(instance, nodeId);
  if (!rank) return 0;
  const isLoaded = measured?.loadedRunners?.includes(rank.runnerId) === true;
  return (isLoaded ? shardKvBytes : shardBytes)(rank.shard, instance.config);
}

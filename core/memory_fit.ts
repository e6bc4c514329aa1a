import type { NodeId } from "./ids.ts";
import { type Instance, type InstanceConfig, rankOn, runnersOf } from "./instance.ts";
import type { ModelCard } from "./model_card.ts";
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

/** Weights plus KV for the context that the instance is promised. */
export function neededBytes(card: ModelCard, config: MemoryConfig = {}): number {
  return card.storageSize.inBytes + kvBytes(card, config);
}

/** KV for the context that the instance is promised. */
export function kvBytes(card: ModelCard, config: MemoryConfig = {}): number {
  const context = config.contextTokens ??
    Math.min(card.contextLength || CONTEXT_TOKENS_DEFAULT, CONTEXT_TOKENS_DEFAULT);
  const held = Math.min(context, (card.slidingWindow ?? Infinity) + TOKENS_BESIDE_WINDOW);
  return Math.ceil(held * kvBytesOf(card, config));
}

/** KV of one token. */
export function kvBytesOf({ kvBytesPerToken = 0 }: ModelCard, { kvBits }: MemoryConfig): number {
  if (kvBits === undefined) return kvBytesPerToken;
  return kvBytesPerToken * (kvBits + KV_SCALE_BITS) / KV_CARD_BITS;
}

/**
 * Free memory less what is promised to instances, so that no two placements book the same bytes:
 * weights until they are in memory, KV always, since a cache grows and shrinks with each request.
 * Undefined until the node has reported.
 */
export function freeBytes(
  state: State,
  memory: ReadonlyMap<NodeId, NodeMemory>,
  nodeId: NodeId,
): number | undefined {
  const reported = memory.get(nodeId)?.ramAvailableBytes;
  if (reported === undefined) return undefined;
  let promised = 0;
  for (const instance of state.instances.values()) {
    const rank = rankOn(instance, nodeId);
    if (!rank) continue;
    const bytes = isLoaded(state, instance) ? kvBytes : neededBytes;
    promised += bytes(rank.shard.modelCard, instance.config);
  }
  return Math.max(0, reported - promised);
}

/** What would be free on a node without an instance of it: its promise gone, its weights freed. */
export function freeBytesWithout(
  instance: Instance,
  { state, memory, nodeId }: {
    readonly state: State;
    readonly memory: ReadonlyMap<NodeId, NodeMemory>;
    readonly nodeId: NodeId;
  },
): number | undefined {
  const reported = memory.get(nodeId);
  const rank = rankOn(instance, nodeId);
  if (!reported || !rank) return undefined;
  const instances = new Map(state.instances);
  instances.delete(instance.instanceId);
  const weightBytes = isLoaded(state, instance) ? rank.shard.modelCard.storageSize.inBytes : 0;
  const ramAvailableBytes = reported.ramAvailableBytes + weightBytes;
  const freed = new Map(memory).set(nodeId, { ...reported, ramAvailableBytes });
  return freeBytes({ ...state, instances }, freed, nodeId);
}

function isLoaded(state: State, instance: Instance): boolean {
  const loaded = ["RunnerLoaded", "RunnerWarmingUp", "RunnerReady", "RunnerRunning"];
  return runnersOf(instance).every((id) =>
    loaded.includes(state.runners.get(id)?.status.type ?? "")
  );
}

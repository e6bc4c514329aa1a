import type { InstanceId, NodeId } from "./ids.ts";
import { rankOn } from "./instance.ts";
import {
  freeBytes,
  freeBytesWithout,
  kvBytesOf,
  type MemoryConfig,
  neededBytes,
} from "./memory_fit.ts";
import type { ModelCard } from "./model_card.ts";
import type { NodeMemory } from "./telemetry.ts";
import type { State } from "./state.ts";
import { formatBytes } from "./units.ts";

/** Shortest context that is worth proposing, in tokens. */
const CONTEXT_TOKENS_MIN = 512;

/** Proposed contexts are rounded down to this many tokens. */
const CONTEXT_TOKENS_STEP = 256;

/** A model that no node can take, and what it needs. */
export interface Unplaced {
  readonly card: ModelCard;
  readonly needed: number;
  /** The nodes that were asked for; undefined for any. */
  readonly nodeIds?: readonly NodeId[] | undefined;
  readonly config?: MemoryConfig | undefined;
}

/**
 * What to do about a model that no node can take: a shorter context if the weights would fit, an
 * instance to delete if that would do, else a smaller model. A proposal is one that would work.
 */
export function remedy(
  state: State,
  memory: ReadonlyMap<NodeId, NodeMemory>,
  unplaced: Unplaced,
): string {
  const { card, needed, nodeIds, config = {} } = unplaced;
  const nodes = [...state.nodes].filter(([id]) => nodeIds?.includes(id) ?? true);
  if (nodes.length === 0) return "start a node with exo serve";
  const fitting = nodes.filter(([, { info }]) =>
    info.backends.some((backend) => card.backends.includes(backend))
  );
  if (fitting.length === 0) return "place it on a node with one of these: exo status shows them";
  const reports = fitting.flatMap(([nodeId]) => {
    const free = freeBytes(state, memory, nodeId);
    return free === undefined ? [] : [{ nodeId, free }];
  });
  const [most] = reports.sort((a, b) => b.free - a.free);
  if (!most) return "ask again in a second: a node reports its memory once it has started";
  const shorter = contextThatFits(card, config, most.free);
  if (shorter !== undefined) {
    const bits = config.kvBits === undefined ? "" : ` --kv-bits ${config.kvBits}`;
    return `exo instance create ${card.modelId} --context ${shorter}${bits}`;
  }
  const freed = instanceInTheWay(state, memory, { nodeId: most.nodeId, needed });
  if (freed !== undefined) return `make room: exo instance delete ${freed}`;
  return `choose a smaller model, or one with fewer bits per weight, for the ${
    formatBytes(most.free)
  } free`;
}

/** The longest context for which the memory suffices; undefined when it would be useless. */
function contextThatFits(
  card: ModelCard,
  config: MemoryConfig,
  free: number,
): number | undefined {
  const perToken = kvBytesOf(card, config);
  if (perToken === 0) return undefined;
  const tokens = Math.floor((free - card.storageSize.inBytes) / perToken);
  if (tokens < CONTEXT_TOKENS_MIN) return undefined;
  return Math.floor(tokens / CONTEXT_TOKENS_STEP) * CONTEXT_TOKENS_STEP;
}

/** The smallest instance of a node without which the model would fit. */
function instanceInTheWay(
  state: State,
  memory: ReadonlyMap<NodeId, NodeMemory>,
  { nodeId, needed }: { readonly nodeId: NodeId; readonly needed: number },
): InstanceId | undefined {
  const candidates = [...state.instances.values()].flatMap((instance) => {
    const rank = rankOn(instance, nodeId);
    if (!rank) return [];
    // Recounted, not added up: what is promised beyond the memory is owed before anything is free.
    const free = freeBytesWithout(instance, { state, memory, nodeId }) ?? 0;
    const bytes = neededBytes(rank.shard.modelCard, instance.config);
    return free < needed ? [] : [{ instanceId: instance.instanceId, bytes }];
  });
  return candidates.sort((a, b) => a.bytes - b.bytes)[0]?.instanceId;
}

import type { InstanceId } from "./ids.ts";
import type { MemoryConfig } from "./memory_fit.ts";
import { bytesByNode, freeBytesWithout, kvBytesOf } from "./memory_fit.ts";
import { ALL_CONSTRAINTS, search } from "./placement_search.ts";
import { type PlacementView, viewOf } from "./placement_view.ts";
import type { Telemetry } from "./telemetry.ts";
import type { State } from "./state.ts";
import { formatBytes } from "./units.ts";

/** Shortest context that is worth proposing, in tokens. */
const CONTEXT_TOKENS_MIN = 512;

/** Proposed contexts are rounded down to this many tokens. */
const CONTEXT_TOKENS_STEP = 256;

/** Instances that are looked at for one whose end would help. */
const INSTANCES_TRIED_MAX = 8;

/** Steps of the search that a proposal is tried by (`SEARCH_STEPS_MAX`). */
const TRY_STEPS = 5_000;

/**
 * What to do about a model for which memory is what lacks: a shorter context if the weights would
 * fit, an instance to delete if that would do, else a smaller model. A proposal is one that works.
 */
export function remedy(
  state: State,
  telemetry: Telemetry,
  { view, mostFree }: { view: PlacementView; mostFree: number },
): string {
  const { card, request } = view;
  const shorter = contextThatFits(state, telemetry, { view, mostFree });
  if (shorter !== undefined) {
    const bits = request.config?.kvBits === undefined ? "" : ` --kv-bits ${request.config.kvBits}`;
    return `exo instance create ${card.modelId} --context ${shorter}${bits}`;
  }
  const freed = instanceInTheWay(state, telemetry, { view, mostFree });
  if (freed !== undefined) return `make room: exo instance delete ${freed}`;
  const room = formatBytes(mostFree);
  return `choose a smaller model, or one with fewer bits per weight, for the ${room} free`;
}

/** The longest context for which the memory suffices; undefined when it would be useless. */
function contextThatFits(
  state: State,
  telemetry: Telemetry,
  { view, mostFree }: { view: PlacementView; mostFree: number },
): number | undefined {
  const { card, request } = view;
  const perToken = kvBytesOf(card, request.config ?? {});
  if (perToken === 0) return undefined;
  const tokens = Math.floor((mostFree - card.storageSize.inBytes) / perToken);
  if (tokens < CONTEXT_TOKENS_MIN) return undefined;
  const contextTokens = Math.floor(tokens / CONTEXT_TOKENS_STEP) * CONTEXT_TOKENS_STEP;
  const config: MemoryConfig = { ...request.config, contextTokens };
  const wanted = { card, request: { ...request, config }, before: view };
  const { best } = search(viewOf(state, telemetry, wanted), ALL_CONSTRAINTS, { steps: TRY_STEPS });
  return best ? contextTokens : undefined;
}

/** The smallest instance without which the model would fit. */
function instanceInTheWay(
  state: State,
  telemetry: Telemetry,
  { view, mostFree }: { view: PlacementView; mostFree: number },
): InstanceId | undefined {
  const { card, request, needed } = view;
  const sized = [...state.instances.values()].map((instance) => {
    const bytes = [...bytesByNode(instance).values()].reduce((sum, one) => sum + one, 0);
    return { instance, bytes };
  });
  const tried = sized.filter(({ bytes }) => bytes >= needed - mostFree).sort((a, b) =>
    a.bytes - b.bytes
  ).slice(0, INSTANCES_TRIED_MAX);
  return tried.find(({ instance }) => {
    // Recounted, not added up: what is promised beyond the memory is owed before anything is free.
    const free = freeBytesWithout(instance, state, telemetry.memory);
    const freed = viewOf(state, telemetry, { card, request, free, before: view });
    return search(freed, ALL_CONSTRAINTS, { steps: TRY_STEPS }).best !== undefined;
  })?.instance.instanceId;
}

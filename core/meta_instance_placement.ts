import type { Event } from "./events.ts";
import { InstanceId, type MetaInstanceId, type ModelId } from "./ids.ts";
import type { Instance } from "./instance.ts";
import type { MetaInstance } from "./meta_instance.ts";
import type { ModelCard } from "./model_card.ts";
import { place } from "./placement.ts";
import type { PlacementRequest } from "./placement_request.ts";
import { put, type State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** A model's card, or why nobody knows it. */
export type CardLookup =
  | { readonly ok: true; readonly modelCard: ModelCard }
  | { readonly ok: false; readonly reason: string };

/** What could be found out about models. */
export type CardLookups = ReadonlyMap<ModelId, CardLookup>;

/** What it takes to find places for wishes, beyond the state. */
export interface MetaInstancesContext {
  readonly telemetry: Telemetry;
  /** What could be found out about models that wishes name, and why not. */
  readonly cards: CardLookups;
  /** The id of the instance that is created next, if one is; further ones derive theirs. */
  readonly freshId: InstanceId;
  /** The wishes that may be searched a place for (`placementTurn`); absent: all. */
  readonly due?: ReadonlySet<MetaInstanceId> | undefined;
}

/**
 * The wishes without an instance, in the order in which they were made: not parked, and nothing
 * carries their id. An instance that only looks alike is somebody else's; one that is lost has been
 * deleted by InstanceHealth before.
 */
export function unsatisfiedMetas({ instances, metaInstances }: State): MetaInstance[] {
  const satisfied = new Set([...instances.values()].map(({ metaInstanceId }) => metaInstanceId));
  return [...metaInstances.values()].filter(({ phase, metaInstanceId }) =>
    phase !== "parked" && !satisfied.has(metaInstanceId)
  );
}

/** The wishes for which a search could find a place: the model and the pinned nodes are known. */
export function searchableMetas(state: State, cards: CardLookups): MetaInstanceId[] {
  return unsatisfiedMetas(state)
    .filter((meta) => lookUp(state, meta, cards)?.ok && pinnedRequest(state, meta).ok)
    .map(({ metaInstanceId }) => metaInstanceId);
}

/** One pass over the unsatisfied wishes: one that fails does not stop the others. */
export function placeUnsatisfied(state: State, context: MetaInstancesContext): Event[] {
  const events: Event[] = [];
  let placed = state;
  for (const meta of unsatisfiedMetas(state)) {
    const lookup = lookUp(state, meta, context.cards);
    if (lookup === undefined) continue;
    if (!lookup.ok) {
      events.push(...placementFailed(meta, `Failed to load model card: ${lookup.reason}`));
      continue;
    }
    const { metaInstanceId } = meta;
    const { modelCard } = lookup;
    if (!meta.modelCard) {
      events.push({ type: "MetaInstanceCardResolved", metaInstanceId, modelCard });
    }
    const found = placeMeta(placed, context, { meta, modelCard });
    if (found === undefined) continue;
    if (!found.ok) {
      events.push(...placementFailed(meta, found.reason));
      continue;
    }
    const instance = { ...found.instance, metaInstanceId };
    events.push({ type: "InstanceCreated", instance });
    // The next one is placed beside this one: no byte is promised twice.
    placed = { ...placed, instances: put(placed.instances, instance.instanceId, instance) };
  }
  return events;
}

/** The card of a wish; undefined while nobody has found out. */
function lookUp(
  state: State,
  { modelId, modelCard }: MetaInstance,
  cards: CardLookups,
): CardLookup | undefined {
  const known = modelCard ?? state.customModelCards.get(modelId);
  return known ? { ok: true, modelCard: known } : cards.get(modelId);
}

/** Where the instance of a wish goes, or why there is no place; undefined if it is not its turn. */
function placeMeta(
  state: State,
  { telemetry, freshId, due }: MetaInstancesContext,
  { meta, modelCard }: { meta: MetaInstance; modelCard: ModelCard },
): { ok: true; instance: Instance } | { ok: false; reason: string } | undefined {
  const pinned = pinnedRequest(state, meta);
  if (!pinned.ok) return pinned;
  if (due && !due.has(meta.metaInstanceId)) return undefined;
  const instanceId = unusedId(state, freshId);
  const { request } = pinned;
  return place(state, telemetry, { instanceId, card: modelCard, request });
}

/**
 * What `place` is asked. `strict` pins are waited for; `prefer` makes do with those that are there,
 * and asks for no more nodes than are left of them.
 */
export function pinnedRequest(
  state: State,
  meta: MetaInstance,
): { ok: true; request: PlacementRequest } | { ok: false; reason: string } {
  const { nodeIds = [], pin, modelId, minNodes } = meta;
  const away = nodeIds.filter((nodeId) => !state.nodes.has(nodeId));
  if (away.length === 0) return { ok: true, request: meta };
  if (pin === "strict") {
    const found = `pinned nodes ${away.join(", ")} are away`;
    return { ok: false, reason: `Cannot place "${modelId}": ${found}, all of them needed` };
  }
  const left = nodeIds.filter((nodeId) => state.nodes.has(nodeId));
  const { nodeIds: _, exact, ...unpinned } = meta;
  const nodesMax = Math.max(1, left.length || state.nodes.size);
  const request = { ...unpinned, minNodes: Math.min(minNodes, nodesMax) };
  if (left.length === 0) return { ok: true, request };
  return { ok: true, request: { ...request, nodeIds: left, exact } };
}

/** `fresh`, or the first of `fresh-2`, `fresh-3`, … that no instance has. */
function unusedId({ instances }: State, fresh: InstanceId): InstanceId {
  let id = fresh;
  for (let n = 2; instances.has(id); n++) id = InstanceId.parse(`${fresh}-${n}`);
  return id;
}

/** The event, unless it would say what the wish says already. */
function placementFailed(
  { metaInstanceId, placementError }: MetaInstance,
  reason: string,
): Event[] {
  if (placementError !== undefined && isSameReason(placementError, reason)) return [];
  return [{ type: "MetaInstancePlacementFailed", metaInstanceId, reason }];
}

/** Free memory changes all the time and is no news: the log must not grow by it. */
function isSameReason(a: string, b: string): boolean {
  return a.replaceAll(AMOUNT, "") === b.replaceAll(AMOUNT, "");
}

const AMOUNT = /\d+(\.\d+)? (B|KiB|MiB|GiB)\b/g;

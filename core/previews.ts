import { bestOfEach } from "./candidates.ts";
import type { Candidate } from "./block_search.ts";
import { InstanceId } from "./ids.ts";
import type { InstanceMeta, Sharding } from "./instance.ts";
import type { ModelCard } from "./model_card.ts";
import {
  forcedOnto,
  noPortLeft,
  type Placed,
  placedOn,
  rejectedNodes,
  rejectedSets,
  type Rejection,
} from "./placement.ts";
import { contradiction, explain, unknownPin } from "./placement_refusal.ts";
import type { PlacementRequest } from "./placement_request.ts";
import { problemOf } from "./placement_search.ts";
import { type PlacementView, viewOf } from "./placement_view.ts";
import { type Aim, compareSums } from "./preference.ts";
import { newBudget, SEARCH_STEPS_MAX } from "./search_budget.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** Numbers of nodes for which previews tell why there is no placement, the smallest ones. */
export const SIZES_EXPLAINED_MAX = 8;

/** One way to place a model. */
export interface Preview extends Omit<Placed, "ok"> {
  /** What was asked for; a single node comes of it as a ring with a pipeline. */
  readonly asked: { readonly sharding: Sharding; readonly instanceMeta: InstanceMeta };
}

/** All ways to place a model, the best first, and what stands in the way of others. */
export interface Previews {
  readonly placements: readonly Preview[];
  readonly rejected: readonly Rejection[];
}

/** What previews are asked for. */
export interface PreviewOptions {
  readonly card: ModelCard;
  /** Its `sharding` and `instanceMeta` are set by each preview. */
  readonly request: PlacementRequest;
  /** All by default. */
  readonly shardings?: readonly Sharding[];
  /** All by default. */
  readonly instanceMetas?: readonly InstanceMeta[];
  /** The instances' ids begin with it. */
  readonly instanceId: InstanceId;
}

/**
 * Every sharding, transport and number of nodes that is possible, and the reasons why others are
 * not (spec §3.8). A single node is the same for all of them and comes once.
 */
export function previews(state: State, telemetry: Telemetry, options: PreviewOptions): Previews {
  const { shardings = ["Pipeline", "Tensor"], instanceMetas = ["MlxRing", "MlxJaccl"] } = options;
  const ways = instanceMetas.flatMap((instanceMeta) =>
    shardings.map((sharding) => ({ sharding, instanceMeta }))
  );
  const found = ways.map((way, at) =>
    oneWay(state, telemetry, { ...options, way, isFirst: at === 0 })
  );
  const placements = found.flatMap(({ ranked }) => ranked)
    .sort((a, b) => compareSums(a.aim, a.best.sum, b.best.sum, b.aim))
    .map(({ place }, at) => place(InstanceId.parse(`${options.instanceId}-${at}`)));
  return { placements, rejected: found.flatMap(({ rejected }) => rejected) };
}

interface Way {
  readonly sharding: Sharding;
  readonly instanceMeta: InstanceMeta;
}

interface Ranked {
  readonly aim: Aim;
  readonly best: Candidate;
  place(instanceId: InstanceId): Preview;
}

function oneWay(
  state: State,
  telemetry: Telemetry,
  { card, request: asked, way, isFirst }: PreviewOptions & { way: Way; isFirst: boolean },
): { ranked: Ranked[]; rejected: Rejection[] } {
  const request = { ...asked, ...way };
  const view = viewOf(state, telemetry, { card, request });
  const refused = contradiction(card, request, view.usable) ?? unknownPin(state, request);
  if (refused) return { ranked: [], rejected: [{ reason: refused.reason, nodeIds: [], ...way }] };
  if (view.nodes.length < request.minNodes) {
    const { reason, nodeIds } = explain(state, telemetry, view);
    return { ranked: [], rejected: [{ reason, nodeIds, ...way }] };
  }
  const { aim } = problemOf(view);
  const candidates = bySize(view);
  const counts = view.nodes.map((_, at) => at + 1)
    .filter((size) => size >= request.minNodes && (size > 1 || isFirst));
  const tooMany = (size: number) =>
    contradiction(card, { ...request, minNodes: size }, view.usable)?.reason;
  const possible = counts.filter((size) => tooMany(size) === undefined);
  const withoutPorts: string[] = [];
  const ranked: Ranked[] = [];
  const missing: number[] = [];
  for (const size of possible) {
    const one = { ...view, size };
    const { best, isExhausted } = candidates(size) ?? forcedOnto(one);
    const unmet = best && noPortLeft(state, one, best);
    if (!best) missing.push(size);
    else if (unmet) withoutPorts.push(unmet.reason);
    else {
      const options = { card, request, best, isExhausted };
      const place = (instanceId: InstanceId): Preview => {
        const { ok: _, ...placed } = placedOn(state, one, { ...options, instanceId });
        return { ...placed, asked: way };
      };
      ranked.push({ aim, best, place });
    }
  }
  const rejected = missing.slice(0, SIZES_EXPLAINED_MAX).flatMap((size) => {
    if (size === 1) return rejectedNodes(view);
    return rejectedSets(view, explain(state, telemetry, { ...view, size }));
  });
  // More nodes than the model can be divided over: the first such number says it for all.
  const beyond = counts.flatMap((size) => tooMany(size) ?? []).slice(0, 1)
    .map((reason) => ({ reason, nodeIds: [], ...way }));
  const apart = withoutPorts.slice(0, 1).map((reason) => ({ reason, nodeIds: [], ...way }));
  return { ranked, rejected: [...rejected, ...apart, ...beyond] };
}

/** The best candidates by their numbers of nodes. */
function bySize(view: PlacementView) {
  const budget = newBudget(SEARCH_STEPS_MAX);
  const found = new Map<number, Candidate>();
  for (const best of bestOfEach(problemOf(view), budget)) found.set(best.order.length, best);
  const { isExhausted } = budget;
  return (size: number) => {
    const best = found.get(size);
    return best && { best, isExhausted };
  };
}

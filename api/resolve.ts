import { distance } from "fastest-levenshtein";
import { AppError } from "../core/errors.ts";
import type { Instance } from "../core/instance.ts";
import type { ModelId, NodeId } from "../core/ids.ts";
import type { MetaInstance } from "../core/meta_instance.ts";
import { matchModel, type ModelCard, shortName } from "../core/model_card.ts";
import type { State } from "../core/state.ts";
import type { Gateway } from "./gateway.ts";

/** Most names that a hint suggests. */
const SUGGESTIONS_MAX = 5;

/** Whoever knows the cluster's models: its state, and the cards on the disk of a node. */
export type ModelSource = Pick<Gateway, "state" | "modelCards">;

/** All models that the cluster knows, each once; those at hand come first. */
export function cardsOf(source: ModelSource): ReadonlyMap<ModelId, ModelCard> {
  const cards = new Map(cardsAtHand(source));
  for (const [modelId, card] of source.modelCards()) {
    if (!cards.has(modelId)) cards.set(modelId, card);
  }
  return cards;
}

/** The models that were added, placed or downloaded: those that people are likely to mean. */
function cardsAtHand(source: ModelSource): ReadonlyMap<ModelId, ModelCard> {
  const state = source.state();
  const onDisk = source.modelCards();
  const cards = new Map<ModelId, ModelCard>(state.customModelCards);
  for (const instance of state.instances.values()) {
    const { modelId, runnerToShard } = instance.shardAssignments;
    const [shard] = Object.values(runnerToShard);
    const card = cards.get(modelId) ?? onDisk.get(modelId) ?? shard?.modelCard;
    if (card) cards.set(modelId, card);
  }
  for (const [modelId, card] of onDisk) {
    if (!cards.has(modelId) && holders(state, modelId).length > 0) cards.set(modelId, card);
  }
  return cards;
}

/** The nodes that have all of a model's files. */
export function holders(state: State, modelId: ModelId): NodeId[] {
  return [...state.downloads].flatMap(([nodeId, models]) =>
    models.get(modelId)?.type === "DownloadCompleted" ? [nodeId] : []
  );
}

/** The models that have an instance, ready or not. */
export function placedModels(state: State): ReadonlySet<ModelId> {
  return new Set([...state.instances.values()].map(modelOf));
}

/** The model of an instance. */
export function modelOf(instance: Instance): ModelId {
  return instance.shardAssignments.modelId;
}

/**
 * The model that `wanted` names, by its id or a prefix that no other model shares; what is at hand
 * comes before what has a card alone.
 * @throws {AppError} `model_not_found`, with names that are near.
 */
export function findModel(source: ModelSource, wanted: string): ModelCard {
  const cards = cardsOf(source);
  const atHand = cardsAtHand(source);
  const { modelId, candidates } = matchModel(wanted, atHand.keys(), cards.keys());
  const card = modelId && cards.get(modelId);
  if (card) return card;
  throw new AppError("model_not_found", `Model "${wanted}" is not known`, {
    hint: suggestion(wanted, candidates, source),
    param: "model",
  });
}

/**
 * The placed model that `wanted` names. A prefix is tried on placed models first, so that the one
 * which runs needs no full name; an exact name means itself even when it is not placed.
 * @throws {AppError} `model_not_found`, with the next step.
 */
export function findPlacedModel(source: ModelSource, wanted: string): ModelId {
  const placed = placedModels(source.state());
  // Most requests: no card needs to be looked at.
  const whole = wanted as ModelId;
  if (placed.has(whole)) return whole;
  const known = [...cardsOf(source).keys()];
  const isNamed = known.some((id) => isExact(id, wanted));
  const running = matchModel(wanted, placed);
  if (running.modelId && (!isNamed || isExact(running.modelId, wanted))) return running.modelId;
  const { modelId, candidates } = matchModel(wanted, cardsAtHand(source).keys(), known);
  if (modelId && placed.has(modelId)) return modelId;
  const near = running.candidates.length > 0 ? running.candidates : candidates;
  const wish = [...source.state().metaInstances.values()].find((one) => one.modelId === modelId);
  if (wish) throw unfulfilled(wish);
  throw new AppError("model_not_found", `No instance found for model ${modelId ?? wanted}`, {
    hint: modelId ? `exo instance create ${modelId}` : suggestion(wanted, near, source),
    param: "model",
  });
}

/** The refusal for a model that is declared, but has no instance now. */
function unfulfilled(
  { metaInstanceId, modelId, phase, placementError, lastFailureError }: MetaInstance,
): AppError {
  const reason = phase === "placing" ? placementError ?? lastFailureError : lastFailureError;
  const why = reason === undefined ? "" : ` (${reason})`;
  const message = `No instance found for model ${modelId}: ` +
    `meta-instance ${metaInstanceId} is ${phase}${why}`;
  const hint = phase === "parked"
    ? `mend that, then: exo meta-instance retry ${metaInstanceId}`
    : `exo meta-instance show ${metaInstanceId}`;
  return new AppError("model_not_found", message, { hint, param: "model" });
}

function isExact(id: ModelId, wanted: string): boolean {
  return id === wanted || shortName(id) === wanted;
}

function suggestion(
  wanted: string,
  candidates: readonly ModelId[],
  source: ModelSource,
): string {
  if (candidates.length > 1) return `it could be ${list(candidates)}: give more of the name`;
  const near = nearest(wanted, [...cardsOf(source).keys()]);
  if (near.length > 0) return `did you mean ${list(near)}?`;
  const atHand = [...cardsAtHand(source).keys()];
  return atHand.length > 0
    ? `known models: ${list(atHand)}`
    : "exo models add PATH registers a model of this machine";
}

function list(ids: readonly ModelId[]): string {
  const more = ids.length > SUGGESTIONS_MAX ? ", …" : "";
  return ids.slice(0, SUGGESTIONS_MAX).join(", ") + more;
}

/** Slips that a name of more than three letters may have. */
const SLIPS_MAX = 2;

/** The models that a person who typed `wanted` may have meant: parts of names, then slips. */
function nearest(wanted: string, ids: readonly ModelId[]): ModelId[] {
  const typed = wanted.toLowerCase();
  if (typed.length < 3) return [];
  const slipsMax = typed.length > 3 ? SLIPS_MAX : 0;
  return ids
    .map((id) => ({ id, slips: slipsTo(typed, id) }))
    .filter(({ slips }) => slips <= slipsMax)
    .toSorted((a, b) => a.slips - b.slips)
    .map(({ id }) => id);
}

/** Slips between `typed` and the beginning of a name; 0 for a part of it. */
function slipsTo(typed: string, id: ModelId): number {
  const names = [id.toLowerCase(), shortName(id).toLowerCase()];
  const slips = names.map((name) =>
    name.includes(typed) ? 0 : distance(typed, name.slice(0, typed.length))
  );
  return Math.min(...slips);
}

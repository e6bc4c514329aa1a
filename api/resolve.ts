import { distance } from "fastest-levenshtein";
import { AppError } from "../core/errors.ts";
import type { Instance } from "../core/instance.ts";
import type { ModelId } from "../core/ids.ts";
import { matchModel, type ModelCard, shortName } from "../core/model_card.ts";
import type { State } from "../core/state.ts";

/** Most names that a hint suggests. */
const SUGGESTIONS_MAX = 5;

/** All models that the cluster knows, each once. */
export function cardsOf(state: State): ReadonlyMap<ModelId, ModelCard> {
  const cards = new Map<ModelId, ModelCard>(state.customModelCards);
  for (const instance of state.instances.values()) {
    const { modelId, runnerToShard } = instance.shardAssignments;
    const [shard] = Object.values(runnerToShard);
    if (shard && !cards.has(modelId)) cards.set(modelId, shard.modelCard);
  }
  return cards;
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
 * The model that `wanted` names, by its id or a prefix that no other model shares.
 * @throws {AppError} `model_not_found`, with names that are near.
 */
export function findModel(state: State, wanted: string): ModelCard {
  const cards = cardsOf(state);
  const { modelId, candidates } = matchModel(wanted, cards.keys());
  const card = modelId && cards.get(modelId);
  if (card) return card;
  throw new AppError("model_not_found", `Model "${wanted}" is not known`, {
    hint: suggestion(wanted, candidates, cards.keys()),
    param: "model",
  });
}

/**
 * The placed model that `wanted` names. A prefix is tried on placed models first, so that the one
 * which runs needs no full name; an exact name means itself even when it is not placed.
 * @throws {AppError} `model_not_found`, with the next step.
 */
export function findPlacedModel(state: State, wanted: string): ModelId {
  const placed = placedModels(state);
  const known = [...cardsOf(state).keys()];
  const isNamed = known.some((id) => id === wanted || shortName(id) === wanted);
  const running = matchModel(wanted, placed);
  if (running.modelId && (!isNamed || isExact(running.modelId, wanted))) return running.modelId;
  const { modelId, candidates } = matchModel(wanted, known);
  if (modelId && placed.has(modelId)) return modelId;
  throw new AppError("model_not_found", `No instance found for model ${modelId ?? wanted}`, {
    hint: modelId
      ? `exo instance create ${modelId}`
      : suggestion(wanted, running.candidates.length > 0 ? running.candidates : candidates, known),
    param: "model",
  });
}

function isExact(id: ModelId, wanted: string): boolean {
  return id === wanted || shortName(id) === wanted;
}

function suggestion(
  wanted: string,
  candidates: readonly ModelId[],
  known: Iterable<ModelId>,
): string {
  const all = [...known];
  if (candidates.length > 1) return `it could be ${list(candidates)}: give more of the name`;
  const near = all.filter((id) => isNear(wanted, id));
  if (near.length > 0) return `did you mean ${list(near)}?`;
  return all.length > 0
    ? `known models: ${list(all)}`
    : "exo models add PATH registers a model of this machine";
}

function list(ids: readonly ModelId[]): string {
  const more = ids.length > SUGGESTIONS_MAX ? ", …" : "";
  return ids.slice(0, SUGGESTIONS_MAX).join(", ") + more;
}

/** Whether a person who typed `wanted` may have meant `id`: part of it, or two slips from it. */
function isNear(wanted: string, id: ModelId): boolean {
  const typed = wanted.toLowerCase();
  const names = [id.toLowerCase(), shortName(id).toLowerCase()];
  if (typed.length < 3) return false;
  const mayHaveSlips = typed.length > 3;
  return names.some((name) =>
    name.includes(typed) || (mayHaveSlips && distance(typed, name.slice(0, typed.length)) <= 2)
  );
}

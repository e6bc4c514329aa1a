import { distance } from "fastest-levenshtein";
import type { ApiClient } from "../api/client.ts";
import type { ModelObject } from "../api/models.ts";
import { AppError } from "../core/errors.ts";
import { shortName } from "../core/model_card.ts";

/** Most models that a hint names. */
const SUGGESTIONS_MAX = 3;

/** Shorter words are near to everything. */
const TYPED_LENGTH_MIN = 3;

/** Hints that name models already. */
const NAMES_MODELS = /^(did you mean|it could be) /;

/**
 * The result of `work`, which asks for the model `wanted`.
 * @throws {AppError} its error; when the model is not known, with the models that may be meant.
 */
export async function suggesting<T>(
  client: ApiClient,
  wanted: string,
  work: Promise<T>,
  isMeant: (model: ModelObject) => boolean = () => true,
): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const isKnown = !(error instanceof AppError) || error.code !== "model_not_found" ||
      NAMES_MODELS.test(error.hint ?? "");
    if (isKnown) throw error;
    const models = (await client.listModels()).filter(isMeant);
    const near = nearModels(wanted, models.map(({ id }) => id));
    if (near.length === 0) throw error;
    const { code, message, param } = error;
    const hint = `did you mean ${near.join(", ")}?`;
    throw new AppError(code, message, { hint, param, cause: error });
  }
}

/** The models that a person who typed `wanted` may have meant, the nearest first. */
export function nearModels<Id extends ModelObject["id"]>(
  wanted: string,
  ids: readonly Id[],
): Id[] {
  const typed = wanted.toLowerCase();
  if (typed.length < TYPED_LENGTH_MIN) return [];
  const slipsMax = Math.max(1, Math.floor(typed.length / 3));
  return ids
    .map((id) => ({ id, slips: slipsTo(typed, id) }))
    .filter(({ slips }) => slips <= slipsMax)
    .toSorted((a, b) => a.slips - b.slips)
    .slice(0, SUGGESTIONS_MAX)
    .map(({ id }) => id);
}

/** Slips between `typed` and a name of the model, whole or only its beginning; 0 for a part. */
function slipsTo(typed: string, id: ModelObject["id"]): number {
  const names = [id.toLowerCase(), shortName(id).toLowerCase()];
  if (names.some((name) => name.includes(typed))) return 0;
  const forms = names.flatMap((name) => [name, name.slice(0, typed.length)]);
  return Math.min(...forms.map((form) => distance(typed, form)));
}

import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { show } from "../../core/issues.ts";
import { SamplingParams } from "../../core/sampling.ts";
import {
  LOGIT_BIAS_MAX,
  STOP_CHARS_MAX,
  STOP_STRINGS_MAX,
  type TextGenerationPayload,
  TOP_LOGPROBS_MAX,
} from "../../core/task.ts";

/** Null means absent, as OpenAI's clients send it. */
export function optional<S extends z.ZodType>(schema: S) {
  return schema.nullish().transform((value) => value ?? undefined);
}

const stopString = z.string().min(1).max(STOP_CHARS_MAX);
const tokens = optional(z.int().min(1));
const { shape } = SamplingParams;

/** The fields of a chat request that say how its answer is drawn, and how far. */
export const SAMPLING_FIELDS = {
  max_tokens: tokens,
  max_completion_tokens: tokens,
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().min(0).max(1)),
  top_k: optional(z.int().min(-1)),
  min_p: optional(z.number().min(0).max(1)),
  frequency_penalty: optional(shape.frequencyPenalty.unwrap()),
  presence_penalty: optional(shape.presencePenalty.unwrap()),
  repetition_penalty: optional(shape.repetitionPenalty.unwrap()),
  repetition_context_size: optional(shape.repetitionContextTokens.unwrap()),
  logit_bias: optional(z.record(z.string(), z.number().min(-100).max(100))),
  logprobs: optional(z.boolean()),
  top_logprobs: optional(z.int().min(0).max(TOP_LOGPROBS_MAX)),
  seed: optional(z.int()),
  stop: optional(z.union([stopString, z.array(stopString).max(STOP_STRINGS_MAX)])),
  ignore_eos: optional(z.boolean()),
  use_prefix_cache: optional(z.boolean()),
};

const Fields = z.object(SAMPLING_FIELDS);
type Fields = z.output<typeof Fields>;

/**
 * What the fields ask of a generation.
 * @throws {AppError} `invalid_request` for those that do not go together.
 */
export function generationOf(fields: Fields): Omit<TextGenerationPayload, "messages" | "seed"> {
  return {
    sampling: samplingOf(fields),
    stop: fields.stop === undefined ? [] : [fields.stop].flat(),
    ...given({
      maxTokens: fields.max_completion_tokens ?? fields.max_tokens,
      logitBias: logitBiasOf(fields),
      topLogprobs: topLogprobsOf(fields),
      ignoreEos: fields.ignore_eos,
      usePrefixCache: fields.use_prefix_cache,
    }),
  };
}

/** A negative seed is read as the 64 bits that it is in two's complement. */
export function seedOf(seed: number): string {
  return BigInt.asUintN(64, BigInt(seed)).toString();
}

function samplingOf({ top_p, top_k, ...fields }: Fields): SamplingParams {
  return given({
    temperature: fields.temperature,
    // A share of 0 keeps the most likely token alone, which top-k says without a limit case.
    topP: top_p === 0 ? undefined : top_p,
    // −1 is how other servers say that all tokens are kept.
    topK: top_p === 0 ? 1 : top_k === undefined ? undefined : Math.max(0, top_k),
    minP: fields.min_p,
    repetitionPenalty: fields.repetition_penalty,
    repetitionContextTokens: fields.repetition_context_size,
    presencePenalty: fields.presence_penalty,
    frequencyPenalty: fields.frequency_penalty,
  });
}

function logitBiasOf({ logit_bias }: Fields): [number, number][] | undefined {
  const entries = Object.entries(logit_bias ?? {});
  if (entries.length === 0) return undefined;
  if (entries.length > LOGIT_BIAS_MAX) {
    const found = `found ${entries.length} tokens, at most ${LOGIT_BIAS_MAX} needed`;
    throw invalid("logit_bias", found, `name ${LOGIT_BIAS_MAX} tokens at most`);
  }
  return entries.map(([token, bias]) => [tokenIdOf(token), bias]);
}

function tokenIdOf(token: string): number {
  const id = Number(token);
  // Written in one way only, so that no token is named twice.
  if (Number.isSafeInteger(id) && id >= 0 && String(id) === token) return id;
  const hint = 'name tokens by their ids, as in "logit_bias": {"50256": -100}';
  throw invalid("logit_bias", `found the key ${show(token)}, the id of a token needed`, hint);
}

function topLogprobsOf({ logprobs, top_logprobs }: Fields): number | undefined {
  if (logprobs) return top_logprobs ?? 0;
  if (!top_logprobs) return undefined;
  const found = `found ${top_logprobs} without "logprobs", "logprobs": true beside it needed`;
  throw invalid("top_logprobs", found, 'add "logprobs": true, or leave "top_logprobs" out');
}

function invalid(param: string, found: string, hint: string): AppError {
  return new AppError("invalid_request", `Cannot read "${param}": ${found}`, { param, hint });
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The fields that have a value. */
function given<T extends object>(fields: T): Given<T> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Given<T>;
}

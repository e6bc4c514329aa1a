import { z } from "zod";

/** Most tokens that a repetition penalty looks back at. */
export const REPETITION_CONTEXT_MAX = 65_536;

/** How a token is drawn from the logits. Absent fields take the next default in line. */
export const SamplingParams = z.object({
  /** 0 takes the most likely token. */
  temperature: z.number().min(0).max(100).optional(),
  /** Keeps the smallest set of tokens whose probabilities sum to this. */
  topP: z.number().gt(0).max(1).optional(),
  /** Keeps the k most likely tokens; 0 keeps all. */
  topK: z.number().int().min(0).optional(),
  /** Keeps tokens with at least this share of the most likely one's probability. */
  minP: z.number().min(0).max(1).optional(),
  /**
   * Divides positive and multiplies negative logits of tokens among the last
   * `repetitionContextTokens` of prompt and answer, once for each; 1 is off.
   */
  repetitionPenalty: z.number().gt(0).max(100).optional(),
  repetitionContextTokens: z.number().int().min(0).max(REPETITION_CONTEXT_MAX).optional(),
  /** Subtracted once from the logit of each token that was generated before. */
  presencePenalty: z.number().min(-2).max(2).optional(),
  /** Subtracted as often as a token was generated before. */
  frequencyPenalty: z.number().min(-2).max(2).optional(),
});
export type SamplingParams = z.infer<typeof SamplingParams>;

/** Sampling with every field decided. */
export type ResolvedSampling = Required<{ [K in keyof SamplingParams]: number }>;

/** What holds when nobody says otherwise (design, sampling defaults). */
export const DEFAULT_SAMPLING: ResolvedSampling = {
  temperature: 0.7,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  repetitionContextTokens: 20,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

/** The first value that any of `layers` names for each field, in order, then the default. */
export function resolveSampling(
  ...layers: readonly (SamplingParams | undefined)[]
): ResolvedSampling {
  const first = (field: keyof SamplingParams): number => {
    for (const layer of layers) {
      const value = layer?.[field];
      if (value !== undefined) return value;
    }
    return DEFAULT_SAMPLING[field];
  };
  return {
    temperature: first("temperature"),
    topP: first("topP"),
    topK: first("topK"),
    minP: first("minP"),
    repetitionPenalty: first("repetitionPenalty"),
    repetitionContextTokens: first("repetitionContextTokens"),
    presencePenalty: first("presencePenalty"),
    frequencyPenalty: first("frequencyPenalty"),
  };
}

import { z } from "zod";

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
});
export type SamplingParams = z.infer<typeof SamplingParams>;

/** Sampling with every field decided. */
export type ResolvedSampling = Required<{ [K in keyof SamplingParams]: number }>;

/** What holds when nobody says otherwise (design, sampling defaults). */
export const DEFAULT_SAMPLING: ResolvedSampling = { temperature: 0.7, topP: 1, topK: 0, minP: 0 };

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
  };
}

import { z } from "zod";
import { ErrorInfo } from "./errors.ts";

/** Tokens of one generation, counted by the engine. */
export const Usage = z.object({
  promptTokens: z.number().int().min(0),
  completionTokens: z.number().int().min(0),
  /** Prompt tokens whose keys and values came from a cache. */
  cachedTokens: z.number().int().min(0),
});
export type Usage = z.infer<typeof Usage>;

/** Speed of one generation, measured by the engine. */
export const GenerationStats = z.object({
  promptTokensPerSecond: z.number().min(0),
  /** (n − 1) tokens over the time between the first and the last; 0 for one token. */
  generationTokensPerSecond: z.number().min(0),
  peakMemoryBytes: z.number().min(0),
  /** Where the time between the first and the last token went; absent where the engine cannot say. */
  decode: z.object({
    steps: z.number().int().min(0),
    milliseconds: z.number().min(0),
    /** Of them, within the kernels, by kind of operation. */
    kernelMilliseconds: z.record(z.string(), z.number().min(0)),
  }).optional(),
});
export type GenerationStats = z.infer<typeof GenerationStats>;

/** Why an answer ended. */
export const FinishReason = z.enum(["stop", "length", "cancelled"]);
export type FinishReason = z.infer<typeof FinishReason>;

/**
 * What streams back from a generation, in order: Accepted, PrefillProgress*, Token*, then exactly
 * one Finish or Error.
 */
export const Chunk = z.discriminatedUnion("type", [
  /** The runner took the request; queued counts. */
  z.object({ type: z.literal("Accepted"), promptTokens: z.number().int().min(0) }),
  z.object({
    type: z.literal("PrefillProgress"),
    processedTokens: z.number().int().min(0),
    totalTokens: z.number().int().min(0),
  }),
  z.object({ type: z.literal("Token"), text: z.string(), tokenId: z.number().int().min(0) }),
  z.object({
    type: z.literal("Finish"),
    finishReason: FinishReason,
    usage: Usage,
    stats: GenerationStats,
  }),
  z.object({ type: z.literal("Error"), error: ErrorInfo }),
]);
export type Chunk = z.infer<typeof Chunk>;

/** Whether nothing follows this chunk. */
export function isTerminal(chunk: Chunk): boolean {
  return chunk.type === "Finish" || chunk.type === "Error";
}

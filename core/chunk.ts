import { z } from "zod";
import { boundedArray, boundedCounts, boundedRecord } from "./bounded.ts";
import { ErrorInfo } from "./errors.ts";

/** Longest token in bytes: a run of spaces may be one. */
const TOKEN_BYTES_MAX = 65_536;

/** Most tokens of one chunk: those that wait for a stop sequence come together. */
const CHUNK_TOKENS_MAX = 4_096;

/** Most alternatives of a token: more than anybody may ask for. */
const ALTERNATIVES_MAX = 64;

/** Kinds of operations that the time of a step is told by. */
const KERNELS_MAX = 256;

/** Tokens of one generation, counted by the engine. */
export const Usage = z.object({
  promptTokens: z.number().int().min(0),
  completionTokens: z.number().int().min(0),
  /** Prompt tokens whose keys and values came from a cache. */
  cachedTokens: z.number().int().min(0),
});
export type Usage = z.infer<typeof Usage>;

/** How likely a token was by the model alone, before penalties, bias and temperature. */
export const TokenLogprob = z.object({
  tokenId: z.number().int().min(0),
  /** What the token is; parts of a character have no text of their own. */
  bytes: boundedCounts(255, TOKEN_BYTES_MAX),
  logprob: z.number().max(0),
});
export type TokenLogprob = z.infer<typeof TokenLogprob>;

/** A chosen token, and the likeliest ones in its place, by descending probability. */
export const TokenLogprobs = TokenLogprob.extend({
  top: boundedArray(TokenLogprob, ALTERNATIVES_MAX),
});
export type TokenLogprobs = z.infer<typeof TokenLogprobs>;

/** How much of a prompt was found in the prefix cache: exact is all that can be. */
export const PrefixCacheHit = z.enum(["none", "partial", "exact"]);
export type PrefixCacheHit = z.infer<typeof PrefixCacheHit>;

/** Speed of one generation, measured by the engine. */
export const GenerationStats = z.object({
  promptTokensPerSecond: z.number().min(0),
  /** (n − 1) tokens over the time between the first and the last; 0 for one token. */
  generationTokensPerSecond: z.number().min(0),
  peakMemoryBytes: z.number().min(0),
  /** From the request's arrival at the engine to its first step. */
  queueMilliseconds: z.number().min(0).optional(),
  prefixCacheHit: PrefixCacheHit.optional(),
  /** Where the time between the first and the last token went; absent where the engine cannot say. */
  decode: z.object({
    steps: z.number().int().min(0),
    milliseconds: z.number().min(0),
    /** Of them, within the kernels, by kind of operation. */
    kernelMilliseconds: boundedRecord(z.string(), z.number().min(0), KERNELS_MAX),
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
  /** Text that `tokenId` completed; `logprobs`, where wanted, are those of all its tokens. */
  z.object({
    type: z.literal("Token"),
    text: z.string(),
    tokenId: z.number().int().min(0),
    logprobs: boundedArray(TokenLogprobs, CHUNK_TOKENS_MAX).optional(),
  }),
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

import type { PrefillRates } from "./prefill.ts";

/** Fewest tokens of a prompt that are worth asking another instance for. */
export const REMOTE_TOKENS_MIN = 1_000;

/** What a remote prefill takes beside computing and carrying: three round trips and a handshake. */
export const REMOTE_OVERHEAD_MS = 200;

/** Share of a link's measured bandwidth that keys and values get, with TLS and two copies. */
export const REMOTE_BANDWIDTH_SHARE = 0.8;

/** When a prompt is read by another instance: `auto` when it is estimated to be sooner there. */
export const REMOTE_PREFILL_MODES = ["auto", "always", "never"] as const;
/** One of them. */
export type RemotePrefillMode = typeof REMOTE_PREFILL_MODES[number];

/** What the choice is made on. */
export interface PrefillChoice {
  /** Tokens whose keys and values are not here. */
  readonly uncachedTokens: number;
  /** Of those, the ones that the other would compute. */
  readonly remoteTokens: number;
  readonly kvBytesPerToken: number;
  /** How fast this engine reads; undefined: not measured yet. */
  readonly localTokensPerSecond: number | undefined;
  readonly rates: PrefillRates;
}

/** Milliseconds until the prompt is read, here and there. */
export interface PrefillEstimate {
  readonly localMs: number;
  readonly remoteMs: number;
}

/**
 * How long both ways take; undefined where a rate is not known. Bytes are taken to travel after all
 * is computed, although they do it meanwhile: a link is shared, and a wrong guess costs the client.
 */
export function estimatePrefill(
  { uncachedTokens, remoteTokens, kvBytesPerToken, localTokensPerSecond, rates }: PrefillChoice,
): PrefillEstimate | undefined {
  const { tokensPerSecond, bitsPerSecond } = rates;
  if (!localTokensPerSecond || !tokensPerSecond || !bitsPerSecond) return undefined;
  const bytesPerSecond = bitsPerSecond / 8 * REMOTE_BANDWIDTH_SHARE;
  const carryMs = remoteTokens * kvBytesPerToken / bytesPerSecond * 1000;
  const computeMs = remoteTokens / tokensPerSecond * 1000;
  const restMs = (uncachedTokens - remoteTokens) / localTokensPerSecond * 1000;
  return {
    localMs: uncachedTokens / localTokensPerSecond * 1000,
    remoteMs: REMOTE_OVERHEAD_MS + carryMs + computeMs + restMs,
  };
}

/** Whether the other instance is asked. */
export function prefersRemote(choice: PrefillChoice, mode: RemotePrefillMode = "auto"): boolean {
  if (mode === "never" || choice.remoteTokens === 0) return false;
  if (choice.uncachedTokens <= REMOTE_TOKENS_MIN) return false;
  if (mode === "always") return true;
  const estimate = estimatePrefill(choice);
  return estimate !== undefined && estimate.remoteMs < estimate.localMs;
}

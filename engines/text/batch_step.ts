import type { Chunk } from "../../core/chunk.ts";
import { AppError, assert } from "../../core/errors.ts";
import { Scope } from "../../ffi/mod.ts";
import type { Decoder, PendingStep, SequenceCache } from "../decoder.ts";
import type { Drawn } from "../sampler.ts";
import type { Generation } from "./generation.ts";

/** A generation and how many of its tokens a step runs. */
export interface BatchPart {
  readonly generation: Generation;
  readonly tokens: number;
}

/** What a part was when its step was launched. */
interface LaunchedPart extends BatchPart {
  readonly cache: SequenceCache;
  /** Positions that its cache has with this step. */
  readonly offset: number;
  /** Whether all its tokens are in its cache then, so that one is drawn. */
  readonly draws: boolean;
}

/** A step on its way. */
export interface LaunchedBatch {
  readonly parts: readonly LaunchedPart[];
  readonly pending: PendingStep;
  readonly startedAt: number;
}

/** What a step gave each of its parts: chunks, or the error that one of them ends with. */
export interface BatchOutcome {
  /** Undefined for a part whose generation was suspended or is over since. */
  readonly results: readonly (readonly Chunk[] | AppError | undefined)[];
  /** The time that it took alone: what the step before it took is not counted twice. */
  readonly startedAt: number;
  readonly endedAt: number;
}

/** Who runs steps, and by which clock. */
export interface StepRunner {
  readonly decoder: Decoder;
  readonly now: () => number;
}

/**
 * Sends the next tokens of generations through the model, and has one drawn for each whose tokens
 * are all in its cache then.
 * @throws when the step could not be computed; the caches are as they were, or hold nobody knows
 * what.
 */
export function launchBatch(
  parts: readonly BatchPart[],
  { decoder, now }: StepRunner,
): LaunchedBatch {
  using _scope = new Scope();
  const launched = parts.map((part): LaunchedPart => {
    const { generation, tokens } = part;
    const { cache, pendingTokens } = generation;
    assert(cache, "a generation is started before it runs");
    return { ...part, cache, offset: cache.offset + tokens, draws: tokens === pendingTokens };
  });
  const inputs = launched.map(({ generation, tokens, cache, draws }) => ({
    cache,
    ids: generation.next(tokens),
    logitsCount: draws ? 1 : 0,
    draw: draws ? generation.sampler.next() : undefined,
  }));
  const startedAt = now();
  return { parts: launched, pending: decoder.launch(inputs), startedAt };
}

/** Whether a part's generation still goes on from the step's cache. */
export function isCurrent({ generation, cache }: LaunchedPart): boolean {
  return generation.cache === cache;
}

/**
 * What came of a step; waits for it. `lastEndedAt` is when the one before it ended.
 * @throws as {@linkcode launchBatch} does.
 */
export function collectBatch(
  { parts, pending, startedAt }: LaunchedBatch,
  { decoder, now, lastEndedAt = -Infinity }: StepRunner & { readonly lastEndedAt?: number },
): BatchOutcome {
  const output = pending.collect();
  const endedAt = now();
  const from = Math.max(startedAt, lastEndedAt);
  const step = { ms: endedAt - from, endedAt, kernelTimes: decoder.kernelTimes() };
  const results = parts.map((part, i) => {
    if (!isCurrent(part)) return undefined;
    const { generation, offset, draws } = part;
    const drawn = draws ? accepted(generation, output.drawn(i)) : undefined;
    return drawn instanceof AppError ? drawn : generation.ran({ ...step, drawn, offset });
  });
  return { results, startedAt: from, endedAt };
}

/** A token of which nothing could be drawn is its own request's error, and leaves the others alone. */
function accepted({ sampler }: Generation, drawn: Drawn): Drawn | AppError {
  try {
    return sampler.accept(drawn);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
}

/** A step from launch to outcome. @throws as {@linkcode launchBatch} does. */
export function runBatch(parts: readonly BatchPart[], runner: StepRunner): BatchOutcome {
  return collectBatch(launchBatch(parts, runner), runner);
}

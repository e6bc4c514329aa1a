import type { Chunk } from "../../core/chunk.ts";
import { AppError, assert } from "../../core/errors.ts";
import { Scope } from "../../ffi/mod.ts";
import type { Decoder } from "../decoder.ts";
import { Sampler } from "../sampler.ts";
import type { Generation } from "./generation.ts";

/** A generation and how many of its tokens a step runs. */
export interface BatchPart {
  readonly generation: Generation;
  readonly tokens: number;
}

/** What a step gave each of its parts: chunks, or the error that one of them ends with. */
export interface BatchOutcome {
  readonly results: readonly (readonly Chunk[] | AppError)[];
  readonly startedAt: number;
  readonly ms: number;
}

/**
 * Runs the next tokens of generations through the model, and draws one for each whose tokens are
 * all in its cache then.
 * @throws when the step could not be computed; the caches are as they were, or hold nobody knows
 * what.
 */
export function runBatch(
  parts: readonly BatchPart[],
  { decoder, now }: { readonly decoder: Decoder; readonly now: () => number },
): BatchOutcome {
  using _scope = new Scope();
  const draws = parts.map(({ generation, tokens }) => tokens === generation.pendingTokens);
  const inputs = parts.map(({ generation, tokens }, i) => {
    assert(generation.cache, "a generation is started before it runs");
    return {
      cache: generation.cache,
      ids: generation.next(tokens),
      logitsCount: draws[i] ? 1 : 0,
    };
  });
  const startedAt = now();
  const output = decoder.run(inputs);
  const drawing = parts.filter((_, i) => draws[i]).map(({ generation }) => generation);
  const drawn = Sampler.drawAll(drawing.map(({ sampler }) => sampler), output);
  const endedAt = now();
  const kernelTimes = decoder.kernelTimes();
  const ms = endedAt - startedAt;
  const results = parts.map(({ generation }) => {
    const token = drawn[drawing.indexOf(generation)];
    return token instanceof AppError
      ? token
      : generation.ran({ drawn: token, ms, endedAt, kernelTimes });
  });
  return { results, startedAt, ms };
}

import type { ResolvedSampling } from "../core/sampling.ts";
import {
  argpartition,
  cumsum,
  full,
  putAlongAxis,
  random,
  takeAlongAxis,
  type Tensor,
  where,
} from "../ffi/mod.ts";
import type { StepOutput } from "./decoder.ts";
import { argsort } from "../ffi/mod.ts";

/**
 * The key that draws token number `index` of a generation: `split(key(seed), index + 1)[index]`.
 * The same whatever else is generated at the same time.
 */
export function samplingKey(seed: bigint, index: number): Tensor {
  return random.split(random.key(seed), index + 1).take(index, 0);
}

/**
 * Draws a token from logits [V]; a tensor of no dimensions, uint32, not yet computed. Temperature 0
 * takes the most likely one; else it divides the filtered log-probabilities, as the last step.
 */
export function sample(logits: Tensor, sampling: ResolvedSampling, key: () => Tensor): Tensor {
  if (sampling.temperature === 0) return logits.argmax();
  const kept = filterLogprobs(logits, sampling);
  return random.categorical(kept.multiply(1 / sampling.temperature), { key: key() });
}

/** Log-probabilities of logits [V], -∞ where top-p, min-p or top-k (in this order) leaves out. */
export function filterLogprobs(
  logits: Tensor,
  { topP, minP, topK }: Pick<ResolvedSampling, "topP" | "minP" | "topK">,
): Tensor {
  let logprobs = logits.subtract(logits.logsumexp());
  const [V = 1] = logits.shape;
  if (topP < 1) logprobs = keepTopP(logprobs, topP);
  if (minP > 0) logprobs = keepMinP(logprobs, minP);
  if (topK > 0 && topK < V) logprobs = keepTopK(logprobs, topK);
  return logprobs;
}

/** Keeps a token while all likelier ones together have less than `topP`. */
function keepTopP(logprobs: Tensor, topP: number): Tensor {
  const order = argsort(logprobs); // Ascending.
  const sorted = takeAlongAxis(logprobs, order, -1);
  const likelier = cumsum(sorted.exp(), -1, { reverse: true, inclusive: false });
  const kept = where(likelier.less(topP), sorted, -Infinity);
  return putAlongAxis(logprobs, order, kept, -1);
}

/** Keeps tokens with at least `minP` of the likeliest one's probability. */
function keepMinP(logprobs: Tensor, minP: number): Tensor {
  const least = logprobs.max().add(Math.log(minP));
  return where(logprobs.less(least), -Infinity, logprobs);
}

/** Keeps the `topK` likeliest tokens. */
function keepTopK(logprobs: Tensor, topK: number): Tensor {
  const [V = 1] = logprobs.shape;
  const others = argpartition(logprobs, V - topK).slice([0], [V - topK]);
  return putAlongAxis(logprobs, others, full([V - topK], -Infinity, logprobs.dtype), -1);
}

/** What the tokens of one generation are drawn by. */
export interface SamplerRequest {
  readonly sampling: ResolvedSampling;
  /** 64 bits. */
  readonly seed: bigint;
  readonly promptIds: readonly number[];
  readonly logitBias?: readonly (readonly [number, number])[];
  /** Never drawn. */
  readonly bannedIds?: ReadonlySet<number>;
  /** Likeliest tokens to tell beside each; absent: no log-probabilities. */
  readonly topLogprobs?: number;
}

/** A token, and how likely it and others were where that was asked for. */
export interface Drawn {
  readonly id: number;
  readonly logprob?: number;
  readonly top?: readonly { readonly id: number; readonly logprob: number }[];
}

/** Draws the tokens of one generation, one after the other. */
export class Sampler {
  readonly #request: SamplerRequest;
  #drawn = 0;

  constructor(request: SamplerRequest) {
    this.#request = request;
  }

  /** The next token, by a row of a step's output. */
  draw(output: StepOutput, row: number): Drawn {
    const { sampling, seed } = this.#request;
    const index = this.#drawn++;
    if (sampling.temperature === 0) return { id: output.best(row) };
    const key = () => samplingKey(seed, index);
    return { id: sample(output.logits(row), sampling, key).item() };
  }
}

import type { SamplerRequest } from "../../engines/sampler.ts";

/** A token that may be drawn, and how much of the total weight lies before it and up to it. */
export interface Share {
  readonly id: number;
  readonly from: number;
  readonly to: number;
}

/** The rules of sampling (spec, worker-engines §8.2) in plain double precision. */
export function adjustedLogits(
  logits: readonly number[],
  request: Partial<SamplerRequest> & Pick<SamplerRequest, "sampling">,
  generated: readonly number[],
): number[] {
  const { sampling, promptIds = [], logitBias = [], bannedIds = new Set() } = request;
  const { repetitionPenalty, repetitionContextTokens: window } = sampling;
  const recent = window === 0 ? [] : [...promptIds, ...generated].slice(-window);
  return logits.map((logit, id) => {
    let x = logit;
    if (recent.includes(id)) x = x > 0 ? x / repetitionPenalty : x * repetitionPenalty;
    const times = generated.filter((one) => one === id).length;
    if (times > 0) x -= sampling.presencePenalty + times * sampling.frequencyPenalty;
    for (const [biased, bias] of logitBias) if (biased === id) x += bias;
    return bannedIds.has(id) ? -Infinity : Math.fround(x);
  });
}

/** Log-softmax. */
export function logSoftmax(logits: readonly number[]): number[] {
  const numbers = logits.filter((x) => !Number.isNaN(x));
  const largest = numbers.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = numbers.reduce((total, x) => total + Math.exp(x - largest), 0);
  return logits.map((x) => x - largest - Math.log(sum));
}

/** What top-p, min-p and top-k keep, in this order; equal ones by lower id first. */
export function keptIds(
  logits: readonly number[],
  { topP, minP, topK }: Pick<SamplerRequest["sampling"], "topP" | "minP" | "topK">,
): number[] {
  const logprobs = logSoftmax(logits);
  let kept = logprobs.map((logprob, id) => ({ id, logprob, logit: logits[id] ?? NaN }))
    .filter(({ logit }) => logit > -Infinity) // Not NaN either.
    .sort((a, b) => b.logit - a.logit || a.id - b.id);
  if (topP < 1) {
    let likelier = 0;
    kept = kept.filter(({ logprob }) => {
      const isKept = likelier < topP;
      likelier += Math.exp(logprob);
      return isKept;
    });
  }
  const best = kept[0]?.logit ?? 0;
  if (minP > 0) kept = kept.filter(({ logit }) => logit >= best + Math.log(minP));
  if (topK > 0) kept = kept.slice(0, topK);
  return kept.map(({ id }) => id).sort((a, b) => a - b);
}

/** The shares of [0, 1) that the kept tokens have, in order of their ids. */
export function sharesOf(
  logits: readonly number[],
  sampling: SamplerRequest["sampling"],
): Share[] {
  const ids = keptIds(logits, sampling);
  const largest = ids.reduce((most, id) => Math.max(most, logits[id] ?? NaN), -Infinity);
  const weights = ids.map((id) => Math.exp(((logits[id] ?? NaN) - largest) / sampling.temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let sum = 0;
  return ids.map((id, i) => {
    const from = sum / total;
    sum += weights[i] ?? 0;
    return { id, from, to: sum / total };
  });
}

/** Number `index` that a seed gives, in [0, 1): Threefry-2x32 with 20 rounds (Salmon, SC 2011). */
export function uniformAt(seed: bigint, index: number): number {
  const key = [Number(seed >> 32n), Number(seed & 0xffff_ffffn)];
  const [high = 0, low = 0] = threefry(key, [index, 0]);
  return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
}

/** Two words of 32 bits from a key and a counter of as many. */
export function threefry(key: readonly number[], counter: readonly number[]): number[] {
  const [k0 = 0, k1 = 0] = key;
  const keys = [k0, k1, 0x1bd11bda ^ k0 ^ k1];
  const rotations = [[13, 15, 26, 6], [17, 29, 16, 24]];
  let [a = 0, b = 0] = [(counter[0] ?? 0) + k0 | 0, (counter[1] ?? 0) + k1 | 0];
  for (let group = 0; group < 5; group++) {
    for (const by of rotations[group % 2] ?? []) {
      a = a + b | 0;
      b = (b << by | b >>> 32 - by) ^ a;
    }
    a = a + (keys[(group + 1) % 3] ?? 0) | 0;
    b = b + (keys[(group + 2) % 3] ?? 0) + group + 1 | 0;
  }
  return [a >>> 0, b >>> 0];
}

/** What a model says over several nodes, compared with what it says on one. */
import assert from "node:assert/strict";
import type { Sharding } from "../../core/instance.ts";
import { ANSWER_TOKENS, type SaidToken } from "./greedy_answer.ts";

/** How far answers may differ. */
export interface Allowance {
  readonly sharding: Sharding;
  /** Most that a token's logprob may differ. */
  readonly logprobError: number;
  /** Most that the distribution of a token may diverge, in nats. */
  readonly divergence: number;
}

/** Where the likeliest token leads by less, rounding may choose: sums of parts round otherwise. */
const MARGIN_MIN = 0.1;

/** What 1 less the sum of 20 probabilities may be by rounding alone: each is known to 32 bits. */
const REST_MIN = 1e-6;

/**
 * The Kullback-Leibler divergence of what is found from what one node says, in nats, over the tokens
 * that are among the likeliest of both and all others as one. Joining outcomes makes it less, never
 * more: it is what of the whole divergence the API lets us see.
 */
export function divergence(
  wanted: ReadonlyMap<string, number>,
  found: ReadonlyMap<string, number>,
): number {
  let [sum, restWanted, restFound] = [0, 1, 1];
  for (const [token, logprob] of wanted) {
    const other = found.get(token);
    if (other === undefined) continue;
    sum += Math.exp(logprob) * (logprob - other);
    restWanted -= Math.exp(logprob);
    restFound -= Math.exp(other);
  }
  const [p, q] = [Math.max(restWanted, REST_MIN), Math.max(restFound, REST_MIN)];
  return sum + p * Math.log(p / q);
}

/**
 * Share of the likeliest tokens that both tell of, at least: without any, nothing diverges. In a
 * tensor group the last of them change places with those behind.
 */
const COMMON_MIN: Readonly<Record<Sharding, number>> = { Pipeline: 1, Tensor: 0.75 };

/** What must be compared of a tensor group's answers before they part: of each, and of all. */
const TOKENS_MIN = { each: 16, share: 0.75 };

/** What came of a comparison. */
export interface Comparison {
  readonly tokens: number;
  readonly logprobError: number;
  /** The largest of a token; see {@linkcode divergence}. */
  readonly divergence: number;
  /** Answers that went another way where the likeliest token hardly led. */
  readonly parted: number;
}

/**
 * Compares an answer with that of one node, token by token. Of a tensor group it may part where the
 * likeliest token leads by less than {@linkcode MARGIN_MIN}; what follows is another text.
 * @throws what differs.
 */
export function compare(
  reference: readonly SaidToken[],
  found: readonly SaidToken[],
  allowance: Allowance,
): Comparison {
  const { sharding, logprobError: most } = allowance;
  assert.equal(reference.length, ANSWER_TOKENS, "the single node's answer is whole");
  assert.equal(found.length, reference.length, "the answer is whole");
  let [logprobError, diverged] = [0, 0];
  for (const [at, token] of reference.entries()) {
    const said = found[at];
    assert.ok(said);
    // Also where they part: until then it is one text.
    const common = [...token.top.keys()].filter((other) => said.top.has(other)).length;
    const isAlike = common >= COMMON_MIN[sharding] * token.top.size;
    assert.ok(isAlike, `token ${at}: ${common} of ${token.top.size} likeliest tokens are the same`);
    diverged = Math.max(diverged, divergence(token.top, said.top));
    const isNear = diverged <= allowance.divergence;
    assert.ok(isNear, `token ${at}: diverges by ${diverged}, over ${allowance.divergence}`);
    if (said.bytes.join() !== token.bytes.join()) {
      const mayPart = sharding === "Tensor" && token.margin <= MARGIN_MIN;
      const what = `"${textOf(said)}", not "${textOf(token)}", which leads by ${token.margin}`;
      assert.ok(mayPart, `token ${at}: ${what}`);
      return { tokens: at, logprobError, divergence: diverged, parted: 1 };
    }
    logprobError = Math.max(logprobError, Math.abs(said.logprob - token.logprob));
    assert.ok(logprobError <= most, `token ${at}: a logprob off by ${logprobError}, over ${most}`);
  }
  return { tokens: reference.length, logprobError, divergence: diverged, parted: 0 };
}

/**
 * The comparisons of several answers as one.
 * @throws when so little was compared before answers parted that it proves nothing.
 */
export function inAll(comparisons: readonly Comparison[], sharding: Sharding): Comparison {
  const { each, share } = sharding === "Pipeline" ? { each: ANSWER_TOKENS, share: 1 } : TOKENS_MIN;
  const tokens = comparisons.reduce((sum, { tokens }) => sum + tokens, 0);
  const least = Math.min(...comparisons.map(({ tokens }) => tokens));
  const wanted = share * ANSWER_TOKENS * comparisons.length;
  assert.ok(least >= each, `${least} tokens of an answer compared, ${each} needed`);
  assert.ok(tokens >= wanted, `${tokens} tokens compared, ${wanted} needed`);
  return {
    tokens,
    logprobError: Math.max(...comparisons.map(({ logprobError }) => logprobError)),
    divergence: Math.max(...comparisons.map(({ divergence }) => divergence)),
    parted: comparisons.reduce((sum, { parted }) => sum + parted, 0),
  };
}

const textOf = ({ bytes }: SaidToken) => new TextDecoder().decode(new Uint8Array(bytes));

/** What a model says over several nodes, compared with what it says on one. */
import assert from "node:assert/strict";
import type { Sharding } from "../../core/instance.ts";
import { ANSWER_TOKENS, type SaidToken } from "./greedy_answer.ts";

/** How far answers may differ. */
export interface Allowance {
  readonly sharding: Sharding;
  /** Most that a token's logprob may differ. */
  readonly logprobError: number;
}

/** Where the likeliest token leads by less, rounding may choose: sums of parts round otherwise. */
const MARGIN_MIN = 0.1;

/** What must be compared of a tensor group's answers before they part: of each, and of all. */
const TOKENS_MIN = { each: 16, share: 0.75 };

/** What came of a comparison. */
export interface Comparison {
  readonly tokens: number;
  readonly logprobError: number;
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
  { sharding, logprobError: most }: Allowance,
): Comparison {
  assert.equal(reference.length, ANSWER_TOKENS, "the single node's answer is whole");
  assert.equal(found.length, reference.length, "the answer is whole");
  let logprobError = 0;
  for (const [at, token] of reference.entries()) {
    const said = found[at];
    if (said?.bytes.join() !== token.bytes.join()) {
      const mayPart = sharding === "Tensor" && token.margin <= MARGIN_MIN;
      const what = `"${textOf(said)}", not "${textOf(token)}", which leads by ${token.margin}`;
      assert.ok(mayPart, `token ${at}: ${what}`);
      return { tokens: at, logprobError, parted: 1 };
    }
    logprobError = Math.max(logprobError, Math.abs(said.logprob - token.logprob));
    assert.ok(logprobError <= most, `token ${at}: a logprob off by ${logprobError}, over ${most}`);
  }
  return { tokens: reference.length, logprobError, parted: 0 };
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
    parted: comparisons.reduce((sum, { parted }) => sum + parted, 0),
  };
}

const textOf = (token: SaidToken | undefined) =>
  new TextDecoder().decode(new Uint8Array(token?.bytes ?? []));

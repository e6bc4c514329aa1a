/** Prompts between engines whose ranks are processes: tensor groups, which compute in them alone. */
import assert from "node:assert/strict";
import type { TokenLogprobs } from "../../../core/chunk.ts";
import type { InstanceConfig } from "../../../core/instance.ts";
import type { TextGenerationPayload } from "../../../core/task.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { randomLlama } from "../../support/eight_heads_llama.ts";
import { GroupEngine } from "../../support/group_engine.ts";
import { ranksOf, type Sharding } from "../../support/group_ranks.ts";
import { longPrompt } from "../../support/prefill_engines.ts";
import { PrefillPair } from "../../support/prefill_pair.ts";
import { answerAlone } from "../../support/text_engine.ts";
import { bind } from "../golden.ts";
import { TempDir } from "../../support/temp_dir.ts";

await ensureSetup();

/** Where the likeliest token leads by less, rounding may choose: sums of parts round otherwise. */
const MARGIN_MIN = 0.1;

const CONFIG: InstanceConfig = { contextTokens: 2_048, prefillChunkTokens: 256 };

type Side = readonly [sharding: Sharding, ranks: number];

const WHOLE: Side = ["pipeline", 1];

/** A model, and engines over it. */
async function world() {
  await using owned = new AsyncDisposableStack();
  const dir = owned.use(await TempDir.make());
  const path = `${dir.path}/random`;
  await randomLlama(path);
  const kept = owned.move();
  const engine = async ([sharding, ranks]: Side) =>
    kept.use(await GroupEngine.start(ranksOf(bind(path, CONFIG), ranks, sharding)));
  /** What one engine says by itself. */
  const alone = async (payload: TextGenerationPayload) => {
    const { engine: own } = await engine(WHOLE);
    const { tokens } = answerAlone(own, payload);
    own.close();
    return tokens.flatMap(({ logprobs }) => logprobs ?? []);
  };
  return { engine, alone, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Asks for what tells by how much each token leads. */
const payloadOf = (beginning: string) => ({ ...longPrompt(beginning), topLogprobs: 2 });

/** That two answers are the same as far as rounding has no say; how far that is. */
function assertSame(found: readonly TokenLogprobs[], expected: readonly TokenLogprobs[]): number {
  for (const [at, { tokenId, top: [first, second] }] of expected.entries()) {
    if (found[at]?.tokenId === tokenId) continue;
    assert.ok(first && second);
    const margin = first.logprob - second.logprob;
    assert.ok(margin < MARGIN_MIN, `token ${at} is another, with a lead of ${margin}`);
    return at;
  }
  return expected.length;
}

const PAIRS: readonly (readonly [prefill: Side, decode: Side])[] = [
  [["tensor", 2], WHOLE],
  [WHOLE, ["tensor", 4]],
  [["pipeline", 2], ["tensor", 2]],
  [["tensor", 2], ["pipeline", 3]],
];

for (const [from, to] of PAIRS) {
  Deno.test(`a prompt that ${from} ranks read for ${to} has the tokens of one engine`, async () => {
    await using made = await world();
    const [decode, prefill] = await Promise.all([to, from].map((side) => made.engine(side)));
    assert.ok(decode && prefill);
    using pair = new PrefillPair(decode.engine, prefill.engine);
    let compared = 0;
    for (const beginning of ["once", "twice", "thrice"]) {
      const payload = payloadOf(beginning);
      const { request, end, logprobs } = pair.answer(payload);
      assert.ok(request && request.stopPos > 1_000);
      assert.deepEqual(end, {}, "all of it came");
      compared += assertSame(logprobs, await made.alone(payload));
    }
    assert.ok(compared > 18, `${compared} tokens are the same`);
  });
}

Deno.test("a rank of the reader that dies midway: the asker reads on by itself", async () => {
  await using made = await world();
  const decode = await made.engine(WHOLE);
  const prefill = await made.engine(["tensor", 2]);
  using pair = new PrefillPair(decode.engine, prefill.engine);
  const deaths: unknown[] = [];
  const payload = payloadOf("once");
  const { end, logprobs } = pair.answer(payload, {
    onNews: () => {
      prefill.kill(1);
      return undefined;
    },
    onDeath: (cause) => deaths.push((cause as { code?: string }).code),
  });
  assert.deepEqual(deaths, ["group_broken"]);
  assert.equal(end?.error?.message, "gone");
  assertSame(logprobs, await made.alone(payload));
});

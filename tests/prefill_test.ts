/** The short form of `deno task verify prefill`: a tiny model, few prompts, one process. */
import assert from "node:assert/strict";
import { ensureSetup } from "../ffi/mod.ts";
import { goldenPath } from "./engines/golden.ts";
import { engineStats } from "./support/engine_stats.ts";
import {
  choosePrefill,
  comparePrefills,
  killPrefillNode,
  killPrefillRank,
  killPrefillRunner,
} from "./verify/prefill.ts";
import { hasToldAnswer, hasToldReads } from "./verify/prefill_reads.ts";

await ensureSetup();

const SHAPE = {
  modelPath: goldenPath("models/tiny-tied"),
  ...{ prompts: 10, words: 400, answerTokens: 8 },
};

Deno.test("prompts that another node reads get the tokens of one node", async () => {
  const said: string[] = [];
  const { passed, failed } = await comparePrefills(SHAPE, (line) => said.push(line));
  assert.deepEqual([passed, failed], [12, 0], said.join("\n"));
});

Deno.test("prompts that several nodes read together for others get the tokens of one node", async () => {
  const said: string[] = [];
  const shape = { ...SHAPE, prompts: 5 };
  const ranks = { prefill: 2, decode: 2 };
  const { passed, failed } = await comparePrefills(shape, (line) => said.push(line), ranks);
  assert.deepEqual([passed, failed], [7, 0], said.join("\n"));
});

Deno.test("a node by itself has the other read what that is estimated to read sooner", () => {
  return choosePrefill(SHAPE);
});

Deno.test("a prompt whose reader dies midway is read on where it was asked", async (t) => {
  await t.step("the runner", () => killPrefillRunner(SHAPE));
  await t.step("a rank of several", () => killPrefillRank(SHAPE));
  await t.step("the node", () => killPrefillNode(SHAPE));
});

Deno.test("statistics that lack the end of an answer, or what was read for it, are too old", () => {
  const none = engineStats();
  const midway = engineStats({ promptTokens: 1_000, cachedTokens: 160, generatedTokens: 7 });
  const answer = { completionTokens: 8 };
  assert.equal(hasToldAnswer(none, midway, answer), false);
  const here = { ...midway, prefillTokens: 40, generatedTokens: 8 };
  assert.equal(hasToldAnswer(none, here, answer), true);
  assert.equal(hasToldAnswer(here, here, answer), false);
  // All but the last 40 tokens are known there, 160 of them from before.
  const told = (prefillTokens: number) => {
    const there = engineStats({ cachedTokens: 160, prefillTokens });
    return hasToldReads({ here: none, there: none }, { here, there });
  };
  assert.deepEqual([told(0), told(799), told(800)], [false, false, true]);
});

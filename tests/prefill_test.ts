/** The short form of `deno task verify prefill`: a tiny model, few prompts, one process. */
import assert from "node:assert/strict";
import { ensureSetup } from "../ffi/mod.ts";
import { goldenPath } from "./engines/golden.ts";
import {
  choosePrefill,
  comparePrefills,
  killPrefillNode,
  killPrefillRank,
  killPrefillRunner,
} from "./verify/prefill.ts";

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

/** Prompts that another node reads, beside an engine that reads all by itself. */
import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { KV_BLOCK_POSITIONS } from "../../ffi/mod.ts";
import { engineStats } from "../support/engine_stats.ts";
import { eventually, isAlive } from "../support/eventually.ts";
import { PrefillNodes } from "../support/prefill_nodes.ts";
import { answerAlone, testEngine } from "../support/text_engine.ts";
import { comparePrompts, type PrefillSubject } from "./prefill_comparison.ts";
import { prefillPrompt, type PrefillShape } from "./prefill_prompts.ts";
import { hasToldAnswer, type PairReads, readsAfter, readsSince } from "./prefill_reads.ts";
import type { Say, Tally } from "./tally.ts";

/**
 * Tokens that are read where they were asked although another reads the prompt: those behind the
 * last whole block. More are a transfer that did not end.
 */
const REST_TOKENS_MIN = 2 * KV_BLOCK_POSITIONS;

const idsOf = (chunks: readonly Chunk[]) =>
  chunks.flatMap((chunk) => chunk.type === "Token" ? [chunk.tokenId] : []);

/** What an engine says to a prompt that nobody helps, and remembers nothing. */
function reference(modelPath: string): (payload: TextGenerationPayload) => number[] {
  const engine = testEngine({ modelPath, config: {} });
  return (payload) => answerAlone(engine, payload).tokens.map(({ tokenId }) => tokenId);
}

/** Each of the prompts gets the tokens that one node gives, and most are read by the other. */
export async function comparePrefills(
  shape: PrefillShape,
  say: Say,
  ranks = { prefill: 1, decode: 1 },
): Promise<Tally> {
  await using nodes = await PrefillNodes.start(shape.modelPath, { ranks });
  const alone = reference(shape.modelPath);
  const subject: PrefillSubject = {
    answer: async (payload) => answered(await nodes.ask(payload)),
    reads: () => readsOf(nodes),
  };
  const ofOne = (payload: TextGenerationPayload) => Promise.resolve(alone(payload));
  return await comparePrompts(subject, ofOne, { shape, say });
}

function readsOf(nodes: PrefillNodes): PairReads {
  return { here: nodes.counts(nodes.decode), there: nodes.counts(nodes.prefill) };
}

function answered(chunks: readonly Chunk[]) {
  const last = chunks.at(-1);
  assert.ok(last?.type === "Finish", JSON.stringify(last));
  return { tokens: idsOf(chunks), usage: last.usage };
}

/**
 * Nobody says when prompts are read elsewhere: a node asks the other once it knows how fast that
 * reads and how fast the way there is, and finds itself much slower. No cached tokens are claimed.
 */
export async function choosePrefill(shape: PrefillShape): Promise<void> {
  const options = { mode: "auto", clockRate: 200 } as const;
  await using nodes = await PrefillNodes.start(shape.modelPath, options);
  await nodes.measured();
  const payload = prefillPrompt(0, shape);
  const before = readsOf(nodes);
  const chunks = await nodes.ask(payload);
  assert.deepEqual(idsOf(chunks), reference(shape.modelPath)(payload));
  const last = chunks.at(-1);
  assert.ok(last?.type === "Finish");
  const { promptTokens, cachedTokens } = last.usage;
  const reads = await readsAfter(() => readsOf(nodes), before, last.usage);
  const { prefillTokens: here } = readsSince(before.here, reads.here);
  const { prefillTokens: there } = readsSince(before.there, reads.there);
  assert.ok(there > 0.9 * promptTokens, `${there} of ${promptTokens} read there`);
  assert.ok(here < 0.1 * promptTokens, `${here} of ${promptTokens} read here`);
  assert.equal(cachedTokens, 0);
}

/** The runner that reads a prompt dies in the midst of it: the answer comes, and is the same. */
export async function killPrefillRunner(shape: PrefillShape): Promise<void> {
  await using nodes = await PrefillNodes.start(shape.modelPath, { script: { exitIn: "prefill" } });
  const pids = [...nodes.prefill.node.runnerPids().values()];
  await requireRest(nodes, shape, await nodes.ask(prefillPrompt(0, shape)));
  assert.equal(pids.length, 1);
  for (const pid of pids) await eventually("it is dead", async () => !await isAlive(pid));
}

/** A runner that has a part of the model dies while a prompt is read over several nodes. */
export async function killPrefillRank(shape: PrefillShape): Promise<void> {
  const ranks = { prefill: 2, decode: 2 };
  await using nodes = await PrefillNodes.start(shape.modelPath, { ranks, isOrdered: true });
  const { orders } = nodes;
  await orders.hold("prefill");
  const asked = nodes.ask(prefillPrompt(0, shape));
  await eventually("the first rank has sent a part of it", () => orders.isHeld());
  assert.equal(nodes.killOtherRanks(), 1);
  await orders.release();
  await requireRest(nodes, shape, await asked);
}

/** The same with its node, while it has a prompt half read. */
export async function killPrefillNode(shape: PrefillShape): Promise<void> {
  await using nodes = await PrefillNodes.start(shape.modelPath, { script: { hangIn: "prefill" } });
  const asked = nodes.ask(prefillPrompt(0, shape));
  const reached = `${nodes.prefill.dataDir}/fake.json.reached`;
  await eventually("the other node reads", async () => {
    return await Deno.stat(reached).then(() => true, () => false);
  });
  await nodes.killPrefill();
  await requireRest(nodes, shape, await asked);
}

/** The tokens are those of one node, and what had not come when the other died was read here. */
async function requireRest(
  nodes: PrefillNodes,
  shape: PrefillShape,
  chunks: readonly Chunk[],
): Promise<void> {
  const { tokens, usage } = answered(chunks);
  const { promptTokens } = usage;
  assert.deepEqual(tokens, reference(shape.modelPath)(prefillPrompt(0, shape)));
  await eventually(
    "the engine has told what it did",
    () => hasToldAnswer(engineStats(), nodes.counts(nodes.decode), usage),
  );
  const here = nodes.prefilled(nodes.decode);
  assert.ok(
    here >= REST_TOKENS_MIN,
    `${here} of ${promptTokens} read here: nothing was left to do`,
  );
}

/** Prompts that another node reads, beside an engine that reads all by itself. */
import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { eventually } from "../support/eventually.ts";
import { PrefillNodes } from "../support/prefill_nodes.ts";
import { Random } from "../support/random.ts";
import { ask } from "../support/test_node.ts";
import { answerAlone, testEngine } from "../support/text_engine.ts";
import type { Say, Tally } from "./tally.ts";

/** What prompts are made of. */
export interface PrefillShape {
  readonly modelPath: string;
  readonly prompts: number;
  /** Words of a prompt of which over 1,000 tokens come. */
  readonly words: number;
  readonly answerTokens: number;
}

/** How often prompts begin as one before did, and how often that is all of it. */
const FAMILY = 5;

/** Share of a prompt that a family has in common. */
const SHARED_SHARE = 0.1;

const WORDS = "river stone wind over seven light and mountain sleeps under old blue ship".split(
  " ",
);

/** Prompt `n`: of each five, one is new, one repeats it, and the others begin as it does. */
export function prefillPrompt(n: number, { words, answerTokens }: PrefillShape) {
  const family = Math.floor(n / FAMILY);
  const member = n % FAMILY === 1 ? 0 : n % FAMILY;
  const random = (salt: number) => new Random(1 + family * 64 + salt);
  const some = (count: number, from: Random) =>
    Array.from({ length: count }, () => from.pick(WORDS)).join(" ");
  const shared = Math.floor(words * SHARED_SHARE);
  const text = `${some(shared, random(0))} ${some(words - shared, random(1 + member))}`;
  const sampling = n % 2 === 0 ? { temperature: 0 } : { temperature: 0.8, topP: 0.9 };
  return ask(`${family} ${text}`, { maxTokens: answerTokens, sampling, seed: String(n + 1) });
}

const idsOf = (chunks: readonly Chunk[]) =>
  chunks.flatMap((chunk) => chunk.type === "Token" ? [chunk.tokenId] : []);

/** What an engine says to a prompt that nobody helps, and remembers nothing. */
function reference(modelPath: string): (payload: TextGenerationPayload) => number[] {
  const engine = testEngine({ modelPath, config: {} });
  return (payload) => answerAlone(engine, payload).tokens.map(({ tokenId }) => tokenId);
}

/** Prompts in vain until one is read by the other node. */
const WARM_UP_MAX = 8;

/** They are of families of their own. */
const WARM_UP_FAMILY = 1_000_000;

/**
 * Prompts until one is read by the other node: the threads that carry its bytes start with the
 * first, and on a machine with other things to do too late for it. What both have read by then.
 */
async function warmUp(nodes: PrefillNodes, shape: PrefillShape) {
  for (let asked = 1; asked <= WARM_UP_MAX; asked++) {
    const before = nodes.prefilled(nodes.decode);
    const last = (await nodes.ask(prefillPrompt((WARM_UP_FAMILY + asked) * FAMILY, shape))).at(-1);
    assert.ok(last?.type === "Finish");
    await eventually(
      "its engine has told what it did",
      () => nodes.requests(nodes.decode) >= asked,
    );
    const here = nodes.prefilled(nodes.decode);
    if (here - before < last.usage.promptTokens / 2) {
      return { here, there: nodes.prefilled(nodes.prefill) };
    }
  }
  throw new Error(`None of ${WARM_UP_MAX} prompts was read by the other node`);
}

/** Each of the prompts gets the tokens that one node gives, and most are read by the other. */
export async function comparePrefills(
  shape: PrefillShape,
  say: Say,
  ranks = { prefill: 1, decode: 1 },
): Promise<Tally> {
  await using nodes = await PrefillNodes.start(shape.modelPath, { ranks });
  const before = await warmUp(nodes, shape);
  const alone = reference(shape.modelPath);
  let [passed, failed, promptTokens] = [0, 0, 0];
  for (let n = 0; n < shape.prompts; n++) {
    const payload = prefillPrompt(n, shape);
    const chunks = await nodes.ask(payload);
    const last = chunks.at(-1);
    if (last?.type === "Finish") promptTokens += last.usage.promptTokens;
    const isSame = last?.type === "Finish" &&
      JSON.stringify(idsOf(chunks)) === JSON.stringify(alone(payload));
    if (isSame) passed++;
    else {
      failed++;
      say(`prompt ${n}: other tokens than of one node, or none: ${JSON.stringify(last)}`);
    }
  }
  const here = nodes.prefilled(nodes.decode) - before.here;
  const there = nodes.prefilled(nodes.prefill) - before.there;
  say(`${promptTokens} prompt tokens: ${here} read where they were asked, ${there} elsewhere`);
  const isShared = there > promptTokens / 2 && here < promptTokens / 4;
  if (!isShared) say("too few were read elsewhere");
  return { passed: passed + Number(isShared), failed: failed + Number(!isShared) };
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
  const chunks = await nodes.ask(payload);
  assert.deepEqual(idsOf(chunks), reference(shape.modelPath)(payload));
  const last = chunks.at(-1);
  assert.ok(last?.type === "Finish");
  const { promptTokens, cachedTokens } = last.usage;
  const [here, there] = [nodes.prefilled(nodes.decode), nodes.prefilled(nodes.prefill)];
  assert.ok(there > 0.9 * promptTokens, `${there} of ${promptTokens} read there`);
  assert.ok(here < 0.1 * promptTokens, `${here} of ${promptTokens} read here`);
  assert.equal(cachedTokens, 0);
}

/** The runner that reads a prompt dies in the midst of it: the answer comes, and is the same. */
export async function killPrefillRunner(shape: PrefillShape): Promise<void> {
  await using nodes = await PrefillNodes.start(shape.modelPath, { script: { exitIn: "prefill" } });
  const payload = prefillPrompt(0, shape);
  assert.deepEqual(idsOf(await nodes.ask(payload)), reference(shape.modelPath)(payload));
}

/** A runner that has a part of the model dies while a prompt is read over several nodes. */
export async function killPrefillRank(shape: PrefillShape): Promise<void> {
  const ranks = { prefill: 2, decode: 2 };
  await using nodes = await PrefillNodes.start(shape.modelPath, { ranks });
  const payload = prefillPrompt(0, shape);
  let progress = 0;
  const chunks = await nodes.ask(payload, ({ type }) => {
    if (type === "PrefillProgress" && ++progress === 1) nodes.killOtherRanks();
  });
  assert.deepEqual(idsOf(chunks), reference(shape.modelPath)(payload));
}

/** The same with its node, while it has a prompt half read. */
export async function killPrefillNode(shape: PrefillShape): Promise<void> {
  await using nodes = await PrefillNodes.start(shape.modelPath, { script: { hangIn: "prefill" } });
  const payload = prefillPrompt(0, shape);
  const answered = nodes.ask(payload);
  const reached = `${nodes.prefill.dataDir}/fake.json.reached`;
  await eventually("the other node reads", async () => {
    return await Deno.stat(reached).then(() => true, () => false);
  });
  await nodes.killPrefill();
  assert.deepEqual(idsOf(await answered), reference(shape.modelPath)(payload));
}

/** Prompts that another node reads, where each node is a process that can die or stop. */
import assert from "node:assert/strict";
import type { Usage } from "../../core/chunk.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { KV_BLOCK_POSITIONS } from "../../ffi/mod.ts";
import { IDLE_TIMEOUT_MS } from "../../net/bulk_messages.ts";
import { eventually, isAlive } from "../support/eventually.ts";
import { askOf, type PlacedInstance, PrefillProcesses, startAlone } from "./prefill_cluster.ts";
import { comparePrompts, type PrefillSubject, warmUp } from "./prefill_comparison.ts";
import { prefillPrompt, type PrefillShape } from "./prefill_prompts.ts";
import { hasToldAnswer, type Reads, readsSince } from "./prefill_reads.ts";
import type { Say, Tally } from "./tally.ts";
import { ms } from "./three_nodes.ts";

/** Words of a prompt that is read for seconds, in several steps. */
const LONG_WORDS = 4_000;

/** Share of a prompt that has come when the node that reads it is struck. */
const CAME_SHARE = 1 / 4;

/** Until the next progress, once a silent node has been given up: a step of a busy machine. */
const STEP_MS_MAX = 10_000;

/** Compares prompts with those of a process alone, and strikes the node that reads one. */
export async function verifyProcesses(shape: PrefillShape, say: Say): Promise<Tally> {
  await using alone = await startAlone(shape.modelPath);
  const { passed, failed } = await compareProcesses({ alone, shape, say });
  await strikeProcess("SIGKILL", { alone, shape, say });
  await strikeProcess("SIGSTOP", { alone, shape, say });
  return { passed: passed + 2, failed };
}

interface ProcessOptions {
  /** Who is asked the same. */
  readonly alone: PlacedInstance;
  readonly shape: PrefillShape;
  readonly say: Say;
}

/** Each of the prompts gets the tokens that a process alone gives, and most are read by the other. */
async function compareProcesses({ alone, shape, say }: ProcessOptions): Promise<Tally> {
  await using pair = await PrefillProcesses.start(shape.modelPath);
  const ofOne = (payload: TextGenerationPayload) => tokensOfOne(alone, payload);
  return await comparePrompts(subjectOf(pair), ofOne, { shape, say });
}

/** How a node that prefills is struck: its process dies, or is silent and keeps its connections. */
type PrefillStrike = "SIGKILL" | "SIGSTOP";

/**
 * The node that reads a prompt is struck when a part of it has come and another has not: what is
 * missing is read where it was asked, within the limit of a silent connection, and the answer is
 * the same.
 */
async function strikeProcess(
  signal: PrefillStrike,
  { alone, shape, say }: ProcessOptions,
): Promise<void> {
  await using pair = await PrefillProcesses.start(shape.modelPath);
  const { here: before } = await warmUp(subjectOf(pair), shape);
  const payload = prefillPrompt(0, { ...shape, words: LONG_WORDS });
  const { node } = pair.prefill;
  const runners = await node.process.runnerPids();
  assert.equal(runners.length, 1, "the other node has a runner");
  const strike = signal === "SIGKILL"
    ? () => void node.end(signal)
    : () => node.process.kill(signal);
  let [came, isStruck, lastAt, longestMs] = [0, false, 0, 0];
  const { tokens, usage } = await pair.ask(payload, (event) => {
    const now = performance.now();
    if (isStruck) longestMs = Math.max(longestMs, now - lastAt);
    lastAt = now;
    if (isStruck || event.type !== "prefill") return;
    came = event.processedTokens;
    isStruck = came >= event.totalTokens * CAME_SHARE;
    if (isStruck) strike();
  });
  const { promptTokens } = usage;
  const here = await readHere(pair, before, usage);
  say(
    `${signal} of the node that reads ${promptTokens} tokens, with ${came} come: ` +
      `${here} read where they were asked; nothing came for ${ms(longestMs)} at most`,
  );
  assert.ok(isStruck, `the other node was struck, with ${came} of ${promptTokens} tokens come`);
  requireMidway({ promptTokens, came, here });
  assert.ok(longestMs <= IDLE_TIMEOUT_MS + STEP_MS_MAX, `nothing came for ${ms(longestMs)}`);
  // Whoever is stopped ends by nothing else.
  if (node.isRunning) await node.end("SIGKILL");
  for (const pid of runners) await eventually("its runner ends", async () => !await isAlive(pid));
  assert.deepEqual(tokens, await tokensOfOne(alone, payload));
}

/** What had come when the other node was struck came from there, and not all of it had. */
function requireMidway(
  { promptTokens, came, here }: { promptTokens: number; came: number; here: number },
): void {
  const found = `${came} of ${promptTokens} tokens had come, ${here} were read here`;
  assert.ok(here <= promptTokens - came, `nothing came from the other: ${found}`);
  assert.ok(here > 2 * KV_BLOCK_POSITIONS, `all came from the other: ${found}`);
}

function subjectOf(pair: PrefillProcesses): PrefillSubject {
  return {
    answer: (payload) => pair.ask(payload),
    reads: async () => ({
      here: await pair.counts(pair.decode),
      there: await pair.counts(pair.prefill),
    }),
  };
}

/** Tokens of a prompt that were read where it was asked; of the other, nothing may be told now. */
async function readHere(pair: PrefillProcesses, before: Reads, usage: Usage): Promise<number> {
  let now = before;
  await eventually("the engine has told what it did", async () => {
    now = await pair.counts(pair.decode);
    return hasToldAnswer(before, now, usage);
  });
  return readsSince(before, now).prefillTokens;
}

/** Of a node alone, which remembers nothing. */
async function tokensOfOne(alone: PlacedInstance, payload: TextGenerationPayload) {
  return (await askOf(alone, { ...payload, usePrefixCache: false })).tokens;
}

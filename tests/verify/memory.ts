/** What requests leave in memory, and what becomes of more of them than there is memory for. */
import assert from "node:assert/strict";
import { ApiClient } from "../../api/client.ts";
import { TaskId } from "../../core/ids.ts";
import type { TextEngine } from "../../engines/text_engine.ts";
import { clearCache, memoryCounters } from "../../ffi/mod.ts";
import { bind, goldenPath } from "../engines/golden.ts";
import { ServeProcess } from "../support/exo_process.ts";
import { isAlive } from "../support/eventually.ts";
import type { MemoryGroup } from "../support/memory_group.ts";
import { MixedRequests } from "../support/mixed_requests.ts";
import { Random } from "../support/random.ts";
import { Outcomes, testEngine } from "../support/text_engine.ts";

/** Requests that an engine has at once: as many again as it computes. */
const AT_ONCE = 32;
const RUNNING_MAX = 16;

/** Tokens' keys and values that it may keep: a few of its contexts. */
const KV_TOKENS = 2_048;
const CONTEXT_TOKENS = 512;

const CANCELLED_SHARE = 0.1;
const CANCEL_STEPS = 60;

/** Bytes of MLX's active memory over a run of requests. */
export interface RequestMemory {
  readonly began: number;
  readonly most: number;
  /** With what is kept for requests to come, and without. */
  readonly idle: number;
  readonly ended: number;
  readonly kvBudget: number;
  readonly preemptions: number;
}

/**
 * Puts requests of random length through an engine, and asserts that at each step it holds what it
 * says, that this is within its budget, and that in the end memory is what it was.
 * @throws what was kept.
 */
export function memoryOfRequests(seed: number, requests: number): RequestMemory {
  const engine = testEngine({
    modelPath: goldenPath("models/tiny-tied"),
    config: { contextTokens: CONTEXT_TOKENS, maxConcurrentRequests: RUNNING_MAX },
    kvTokens: KV_TOKENS,
  });
  try {
    engine.warmup();
    const began = activeBytes();
    const most = pass(engine, { seed, requests, began });
    const idle = activeBytes();
    const { memory: { kvBudgetBytes }, preemptions } = engine.stats();
    engine.clearPrefixCache();
    const ended = activeBytes();
    assert.equal(ended, began, "active memory is what it was");
    return { began, most, idle, ended, kvBudget: kvBudgetBytes, preemptions };
  } finally {
    engine.close();
  }
}

function activeBytes(): number {
  clearCache();
  return memoryCounters().activeBytes;
}

/** Steps until all requests have come and gone; the most bytes that were held between steps. */
function pass(
  engine: TextEngine,
  { seed, requests, began }: { readonly seed: number; readonly requests: number; began: number },
): number {
  const random = new Random(seed);
  const source = new MixedRequests(random, {
    ...{ systemWords: 8, wordsMax: 40, answerTokensMax: 200, longAnswerShare: 0.3 },
  });
  const outcomes = new Outcomes();
  const cancels = new Map<number, TaskId>();
  let [asked, most] = [0, 0];
  for (let step = 0; asked < requests || engine.hasWork(); step++) {
    while (asked < requests && outcomes.openCount < AT_ONCE) {
      const taskId = TaskId.parse(`request-${asked++}`);
      engine.submit({ taskId, payload: source.next() });
      outcomes.begin(taskId);
      const isCancelled = random.next() < CANCELLED_SHARE;
      if (isCancelled) cancels.set(step + random.below(CANCEL_STEPS), taskId);
    }
    const cancelled = cancels.get(step);
    if (cancelled) engine.cancel(cancelled);
    for (const part of engine.step()) outcomes.take(...part);
    most = Math.max(most, requireAccounted(engine, began));
  }
  assert.equal(outcomes.openCount, 0, "every request ends");
  return most;
}

/** What is held beyond the weights is what the engine says, and within its budget. */
function requireAccounted(engine: TextEngine, began: number): number {
  const active = activeBytes();
  const { memory: { kvBytes, prefixCacheBytes, kvBudgetBytes } } = engine.stats();
  assert.equal(active - began, kvBytes + prefixCacheBytes, "the engine knows what it holds");
  assert.ok(active - began <= kvBudgetBytes, `${active - began} bytes held, over ${kvBudgetBytes}`);
  return active;
}

/** How much more is asked of a node than it has memory for. */
export interface OverAsked {
  /** A GGUF file whose keys and values are large enough to matter. */
  readonly modelPath: string;
  readonly group: MemoryGroup;
  readonly dataDir: string;
  readonly seed: number;
  /** All at once, of so many prompt tokens at most. */
  readonly requests: number;
  readonly promptTokensMax: number;
}

/** What became of requests that were too many. */
export interface OverAskReport {
  readonly limitBytes: number;
  readonly peakBytes: number;
  /** Bytes of keys and values that all of them together would have taken, in 16 bits. */
  readonly askedBytes: number;
  /** By status. */
  readonly answers: Readonly<Record<string, number>>;
  /** What those were told that were refused, each reason once. */
  readonly reasons: readonly string[];
}

/** Tokens of each answer. */
const ANSWER_TOKENS = 48;

/** Words of one more prompt, for which no context has room. */
const ENDLESS_WORDS = 20_000;

/** How a request may be refused when memory is short. */
const REFUSALS = new Set(["queue_full", "out_of_memory", "context_length_exceeded"]);

/**
 * Asks a node in a memory group for more than fits, and asserts that each request is answered or
 * refused with a reason, that nothing was killed, and that the node serves on.
 * @throws what does not hold.
 */
export async function overAsk(options: OverAsked): Promise<OverAskReport> {
  const { modelPath, group, dataDir, seed, requests, promptTokensMax } = options;
  await using node = await ServeProcess.start(dataDir, {}, ["-q"], group.wrap);
  const client = new ApiClient({ url: node.url, apiKey: undefined });
  const { id: model } = await client.addModel(modelPath);
  const { instanceId } = await client.placeInstance({
    model,
    config: { maxConcurrentRequests: requests },
  });
  for await (const _ of client.awaitInstance({ instanceId }, { timeoutSeconds: 120 }));
  const pids = [node.pid, ...await node.runnerPids()];
  const random = new Random(seed);
  const ask = (words: number) => answerOf(node.url, model, promptOf(random, words));
  const lengths = Array.from(
    { length: requests },
    () => Math.ceil(promptTokensMax * (0.5 + random.next() / 2)),
  );
  const replies = await Promise.all([...lengths, ENDLESS_WORDS].map(ask));
  assert.equal(replies.at(-1)?.code, "context_length_exceeded", "what never fits is refused");
  const refused = replies.filter(({ status }) => status !== 200);
  for (const { code, message } of refused) {
    assert.ok(REFUSALS.has(code) && message.includes("Cannot"), `${code}: ${message}`);
  }
  assert.equal(group.oomKills(), 0, "nothing was killed for memory");
  assert.deepEqual(await Promise.all(pids.map(isAlive)), pids.map(() => true), "all live on");
  assert.deepEqual(await node.runnerPids(), pids.slice(1), "the runner is the same");
  const later = await ask(promptTokensMax / 2);
  assert.equal(later.status, 200, `the node serves on: ${later.message}`);
  const { kvBytesPerToken = 0 } = bind(modelPath).shard.modelCard;
  const tokens = lengths.reduce((sum, length) => sum + length + ANSWER_TOKENS, 0);
  return {
    limitBytes: group.limitBytes,
    peakBytes: group.peakBytes(),
    askedBytes: tokens * kvBytesPerToken / 2, // The card reckons with 32 bits.
    answers: countsOf(replies.map(({ status }) => String(status))),
    reasons: [...new Set(refused.map(({ message }) => message))],
  };
}

/** Words that are a token each; no two prompts begin alike. */
function promptOf(random: Random, words: number): string {
  const all = Array.from({ length: words }, () => random.pick(["the", "sea", "and", "old", "man"]));
  return all.join(" ");
}

async function answerOf(
  url: string,
  model: string,
  content: string,
): Promise<{ status: number; code: string; message: string }> {
  const reply = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...{ model, messages: [{ role: "user", content }], temperature: 0 },
      ...{ max_tokens: ANSWER_TOKENS, ignore_eos: true },
    }),
  });
  const { usage, error } = await reply.json();
  if (reply.ok) assert.equal(usage.completion_tokens, ANSWER_TOKENS, "the answer is whole");
  return { status: reply.status, code: error?.exo_code ?? "", message: error?.message ?? "" };
}

function countsOf(words: readonly string[]): Record<string, number> {
  const groups = Map.groupBy(words, (word) => word);
  return Object.fromEntries([...groups].map(([word, all]) => [word, all.length]));
}

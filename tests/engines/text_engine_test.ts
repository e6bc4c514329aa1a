import { deepEqual, equal, ok, throws } from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import { EngineCounts } from "../../core/engine_stats.ts";
import { TaskId } from "../../core/ids.ts";
import { type Decoder, decoderOf } from "../../engines/decoder.ts";
import type { Engine, EngineResponse, GenerationTask, TaskResponse } from "../../engines/engine.ts";
import { doneStep } from "../../engines/local_step.ts";
import { openCheckpoint } from "../../engines/mlx/checkpoint.ts";
import { buildModel } from "../../engines/models/mod.ts";
import {
  QUEUED_MAX,
  QUEUED_PER_TENANT_MAX,
  QUEUED_PER_USER_MAX,
} from "../../engines/text/queue_places.ts";
import { STARVE_MS_MAX, TextEngine, type TextEngineParts } from "../../engines/text_engine.ts";
import { ChatTemplate } from "../../engines/text/chat_template.ts";
import { TextTokenizer } from "../../engines/text/tokenizer.ts";
import { ensureSetup, liveArrays, memoryCounters } from "../../ffi/mod.ts";
import { goldenPath, readWeights, task } from "./golden.ts";

await ensureSetup();

/** An engine over the tiny model; its clock advances by 1 ms with each look at it. */
function tinyEngine(
  changes: Partial<TextEngineParts> = {},
  wrap: (decoder: Decoder) => Decoder = (decoder) => decoder,
  name = "tiny-tied",
): TextEngine & Disposable {
  const checkpoint = openCheckpoint(goldenPath(`models/${name}`));
  const weights = readWeights(checkpoint);
  const model = buildModel(checkpoint.config, weights);
  const tokenizer = new TextTokenizer(checkpoint.tokenizer);
  let ms = 0;
  const engine = new TextEngine({
    vocabSize: model.vocabSize,
    decoder: wrap(decoderOf(model, weights.isPacked)),
    weights,
    tokenizer,
    template: new ChatTemplate(tokenizer.chatTemplate ?? ""),
    eosIds: new Set(),
    contextTokens: 2048,
    samplingDefaults: [],
    runningMax: 8,
    prefillChunkTokens: 512,
    kvBudgetBytes: 2 ** 30,
    prefixCacheBytes: 0, // Tests of memory count every byte; those of prefixes say otherwise.
    now: () => ms++,
    ...changes,
  });
  return Object.assign(engine, { [Symbol.dispose]: () => engine.close() });
}

/** The decoder, but for how it runs. */
function running(decoder: Decoder, run: Decoder["run"]): Decoder {
  const launch: Decoder["launch"] = (inputs) => doneStep(run(inputs));
  return new Proxy(decoder, {
    get: (target, name) => {
      if (name === "launch") return launch;
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** The sizes of the steps that an engine makes: rows of each sequence. */
function watching(steps: number[][]): (decoder: Decoder) => Decoder {
  return (decoder) =>
    running(decoder, (inputs) => {
      steps.push(inputs.map(({ ids }) => ids.length));
      return decoder.run(inputs);
    });
}

/** What one task was sent, in order. */
interface Outcome {
  readonly chunks: Chunk[];
  readonly text: string;
  readonly last: EngineResponse["type"] | undefined;
}

/** Steps until there is no more to do; what each task was sent. */
async function drain(engine: Engine): Promise<Map<string, Outcome>> {
  const all = new Map<string, EngineResponse[]>();
  while (engine.hasWork()) {
    for await (const [taskId, response] of engine.step()) {
      all.set(taskId, [...(all.get(taskId) ?? []), response]);
    }
  }
  return new Map([...all].map(([taskId, responses]) => [taskId, outcomeOf(responses)]));
}

function outcomeOf(responses: readonly EngineResponse[]): Outcome {
  const chunks = responses.flatMap((r) => r.type === "chunk" ? [r.chunk] : []);
  const text = chunks.map((chunk) => chunk.type === "Token" ? chunk.text : "").join("");
  const ends = responses.filter(({ type }) => type !== "chunk");
  equal(ends.length, 1, "a task ends once");
  equal(responses.at(-1), ends[0], "nothing follows the end");
  return { chunks, text, last: ends[0]?.type };
}

async function answer(engine: Engine, request: GenerationTask): Promise<Outcome> {
  engine.submit(request);
  const outcome = (await drain(engine)).get(request.taskId);
  ok(outcome);
  return outcome;
}

function finishOf({ chunks }: Outcome) {
  const finish = chunks.at(-1);
  ok(finish?.type === "Finish", `the last chunk is ${finish?.type}`);
  return finish;
}

const step = async (engine: Engine) => await Array.fromAsync(engine.step());
const CANCEL_ME = TaskId.parse("cancel-me");

Deno.test("TextEngine streams an answer from prompt to finish", async () => {
  using engine = tinyEngine();
  const { promptTokens } = engine.submit(task("a", "hello", { maxTokens: 20 }));
  const outcome = (await drain(engine)).get("a");
  ok(outcome);
  equal(outcome.last, "finished");
  const kinds = outcome.chunks.map(({ type }) => type);
  equal(kinds.join(" ").replace(/(\w+)( \1)+/g, "$1"), "PrefillProgress Token Finish");
  const processed = outcome.chunks.flatMap((chunk) =>
    chunk.type === "PrefillProgress" ? [chunk.processedTokens] : []
  );
  equal(processed.at(-1), promptTokens);
  const { finishReason, usage, stats } = finishOf(outcome);
  equal(finishReason, "length");
  deepEqual(usage, { promptTokens, completionTokens: 20, cachedTokens: 0 });
  ok(stats.promptTokensPerSecond > 0 && stats.generationTokensPerSecond > 0);
  ok(stats.peakMemoryBytes > 0);
});

Deno.test("TextEngine gives the same answer to the same request, alone or in a queue", async () => {
  using engine = tinyEngine();
  const warm = { sampling: { temperature: 1, topP: 0.95 }, maxTokens: 30, seed: "42" };
  const alone = (await answer(engine, task("a", "hello", warm))).text;
  engine.submit(task("b", "other", { ...warm, seed: "7" }));
  engine.submit(task("c", "hello", warm));
  const queued = await drain(engine);
  equal(queued.get("c")?.text, alone);
  ok((await answer(engine, task("d", "hello", { ...warm, seed: "43" }))).text !== alone);
  ok(
    (await answer(engine, task("e", "hello", { ...warm, seed: "18446744073709551615" }))).text !==
      alone,
  );
});

Deno.test("TextEngine answers in the order of the requests, each once", async () => {
  using engine = tinyEngine();
  for (const id of ["a", "b", "c"]) engine.submit(task(id, "hello", { maxTokens: 3 }));
  const order: string[] = [];
  while (engine.hasWork()) {
    for (const [taskId, { type }] of (await step(engine))) {
      if (type === "finished") order.push(taskId);
    }
  }
  deepEqual(order, ["a", "b", "c"]);
  deepEqual(await step(engine), []);
});

Deno.test("TextEngine ends an answer at a stop string, wherever tokens end", async () => {
  using engine = tinyEngine();
  const whole = (await answer(engine, task("whole", "hello", { maxTokens: 40 }))).text;
  for (const [from, to] of [[1, 4], [5, 11], [9, 10]] as const) {
    const stop = [...whole].slice(from, to).join("");
    const outcome = await answer(
      engine,
      task(`stop${from}`, "hello", { maxTokens: 40, stop: [stop] }),
    );
    equal(outcome.text, whole.slice(0, whole.indexOf(stop)));
    equal(finishOf(outcome).finishReason, "stop");
  }
});

Deno.test("TextEngine lets go of text that only looked like a stop string", async () => {
  using engine = tinyEngine();
  const whole = (await answer(engine, task("whole", "hello", { maxTokens: 20 }))).text;
  const never = whole.slice(-3) + "\u0007";
  const outcome = await answer(engine, task("b", "hello", { maxTokens: 20, stop: [never] }));
  equal(outcome.text, whole);
  equal(finishOf(outcome).finishReason, "length");
});

Deno.test("TextEngine ends at an end token and leaves it out of the text", async () => {
  using plain = tinyEngine();
  const { chunks } = await answer(plain, task("a", "hello", { maxTokens: 40 }));
  const tokens = chunks.flatMap((chunk) => chunk.type === "Token" ? [chunk] : []);
  const ids = tokens.map(({ tokenId }) => tokenId);
  const at = ids.findIndex((id, i) => i > 2 && ids.indexOf(id) === i);
  using engine = tinyEngine({ eosIds: new Set([ids[at] ?? -1]) });
  const outcome = await answer(engine, task("b", "hello", { maxTokens: 40 }));
  equal(finishOf(outcome).finishReason, "stop");
  equal(outcome.text, tokens.slice(0, at).map(({ text }) => text).join(""));
});

Deno.test("TextEngine stops at the context's end and refuses prompts that do not fit", async () => {
  using engine = tinyEngine({ contextTokens: 64 });
  const { promptTokens } = engine.submit(task("a", "hello"));
  const outcome = (await drain(engine)).get("a");
  ok(outcome);
  equal(finishOf(outcome).usage.completionTokens, 64 - promptTokens);
  equal(finishOf(outcome).finishReason, "length");
  throws(() => engine.submit(task("b", "x".repeat(100))), {
    code: "context_length_exceeded",
    message: /it has \d+ tokens, and the context of 64/,
  });
  // So long that it is not read.
  throws(() => engine.submit(task("c", "x ".repeat(1_000_000))), {
    code: "context_length_exceeded",
    message: /it has 20000\d\d characters, at most 1024 possible/,
  });
  equal(engine.hasWork(), false);
});

Deno.test("TextEngine encodes a prompt once, however many answers are asked for", async () => {
  const checkpoint = openCheckpoint(goldenPath("models/tiny-tied"));
  const tokenizer = new TextTokenizer(checkpoint.tokenizer);
  const encode = tokenizer.encode.bind(tokenizer);
  const read: string[] = [];
  tokenizer.encode = (text) => {
    read.push(text);
    return encode(text);
  };
  using engine = tinyEngine({ tokenizer, template: new ChatTemplate("{{ messages[0].content }}") });
  const ask = (id: string, prompt: string) => engine.submit(task(id, prompt, { maxTokens: 3 }));
  const lines = "a line\n".repeat(2_000); // Longer than the context, not longer than is read.
  const context = { code: "context_length_exceeded", message: /it has \d+ tokens/ };
  for (let i = 0; i < 4; i++) throws(() => ask("long", lines), context);
  for (let i = 0; i < 16; i++) ask(`${i}`, "hello");
  deepEqual(read, [lines, "hello"]);
  const outcomes = [...(await drain(engine)).values()];
  equal(new Set(outcomes.map(({ text }) => text)).size, 1);
  equal(outcomes.length, 16);
});

Deno.test("TextEngine refuses a request for which the queue has no place, then takes others", async () => {
  using engine = tinyEngine();
  const ask = (id: string, client?: string) =>
    engine.submit(task(id, "hello", { maxTokens: 1, ...(client === undefined ? {} : { client }) }));
  for (let i = 0; i < QUEUED_PER_TENANT_MAX; i++) ask(`a${i}`);
  throws(() => ask("one-more"), {
    code: "queue_full",
    message: /the queue has 192 of this client, at most 192 possible/,
  });
  for (let i = QUEUED_PER_TENANT_MAX; i < QUEUED_MAX; i++) ask(`b${i}`, "other");
  throws(() => ask("one-more", "third"), {
    code: "queue_full",
    message: /the queue has 256, at most 256 possible/,
  });
  equal((await drain(engine)).size, QUEUED_MAX);
  ask("c");
  equal((await drain(engine)).size, 1);
});

Deno.test("TextEngine counts the queue's places by tenant, then by user", () => {
  using engine = tinyEngine();
  let count = 0;
  const ask = (client: string) => engine.submit(task(`${count++}`, "hello", { client }));
  for (let i = 0; i < QUEUED_PER_USER_MAX; i++) ask("home/ada");
  throws(() => ask("home/ada"), { code: "queue_full", message: /144 of this client/ });
  for (let i = QUEUED_PER_USER_MAX; i < QUEUED_PER_TENANT_MAX; i++) ask(`home/${i}`);
  throws(() => ask("home/new"), { code: "queue_full", message: /192 of this client/ });
  ask("other");
});

Deno.test("TextEngine refuses messages that its template refuses, and lives on", () => {
  const template = new ChatTemplate("{{ raise_exception('Roles must alternate') }}");
  using engine = tinyEngine({ template });
  throws(() => engine.submit(task("a", "hello")), {
    code: "invalid_request",
    message: "Cannot build the prompt: Roles must alternate",
  });
  using without = tinyEngine({ template: undefined });
  throws(() => without.submit(task("a", "hello")), { message: /no chat template/ });
  using empty = tinyEngine({ template: new ChatTemplate("") });
  throws(() => empty.submit(task("a", "hello")), { message: /the prompt has no tokens/ });
});

Deno.test("TextEngine refuses tokens that the model does not know", () => {
  using engine = tinyEngine({ vocabSize: 2 });
  throws(() => engine.submit(task("a", "hello")), {
    code: "invalid_request",
    message: /it has the token \d+, one below 2 needed/,
  });
});

Deno.test("TextEngine cancels in the queue, in prefill and in decode, in the next step", async () => {
  using engine = tinyEngine({ prefillChunkTokens: 2 });
  const before = memoryCounters().activeBytes;
  for (const steps of [0, 1, 30]) {
    engine.submit(task(CANCEL_ME, "hello"));
    for (let i = 0; i < steps; i++) await step(engine);
    equal(engine.cacheBytes > 0, steps > 0);
    engine.cancel(CANCEL_ME);
    deepEqual(await step(engine), [[CANCEL_ME, { type: "cancelled" }]]);
    equal(engine.hasWork(), false);
    equal(memoryCounters().activeBytes, before);
  }
});

Deno.test("TextEngine cancels a queued request without harm to the running one", async () => {
  using engine = tinyEngine();
  const alone = (await answer(engine, task("a", "hello", { maxTokens: 12 }))).text;
  engine.submit(task("b", "hello", { maxTokens: 12 }));
  engine.submit(task(CANCEL_ME, "hello"));
  await step(engine);
  engine.cancel(CANCEL_ME);
  engine.cancel(TaskId.parse("unknown"));
  const outcomes = await drain(engine);
  equal(outcomes.get(CANCEL_ME)?.last, "cancelled");
  equal(outcomes.get("b")?.text, alone);
});

Deno.test("TextEngine turns an error of one request into its error chunk and lives on", async () => {
  let failing = true;
  using engine = tinyEngine({}, (decoder) =>
    running(decoder, (inputs) => {
      if (failing && inputs.some(({ cache }) => cache.offset > 20)) throw new Error("out of luck");
      return decoder.run(inputs);
    }));
  const before = [liveArrays(), memoryCounters().activeBytes];
  const { chunks, last } = await answer(engine, task("a", "hello"));
  deepEqual(chunks.at(-1), { type: "Error", error: { code: "internal", message: "out of luck" } });
  equal(last, "finished");
  deepEqual([liveArrays(), memoryCounters().activeBytes], before);
  failing = false;
  equal(
    finishOf(await answer(engine, task("b", "hello", { maxTokens: 30 }))).finishReason,
    "length",
  );
});

Deno.test("TextEngine holds a step under its limit by the size of its chunks", async () => {
  let ms = 0;
  const sizes: number[] = [];
  using engine = tinyEngine({ now: () => ms }, (decoder) =>
    running(decoder, (inputs) => {
      const rows = inputs.reduce((sum, { ids }) => sum + ids.length, 0);
      sizes.push(rows);
      ms += 20 * rows;
      return decoder.run(inputs);
    }));
  await answer(engine, task("a", "hello ".repeat(50), { maxTokens: 1 }));
  ok(sizes.length > 5);
  ok(Math.max(...sizes) * 20 <= 250, `${sizes}`);
  ok(Math.max(...sizes) > 8, `${sizes}`);
});

Deno.test("TextEngine takes its sampling from the request, then from its defaults in order", async () => {
  const hot = { maxTokens: 30, sampling: {}, seed: "5" };
  using greedy = tinyEngine({ samplingDefaults: [undefined, { temperature: 0 }] });
  using random = tinyEngine({ samplingDefaults: [{ temperature: 1 }, { temperature: 0 }] });
  const cold = (await answer(greedy, task("a", "hello", { maxTokens: 30 }))).text;
  equal((await answer(greedy, task("b", "hello", hot))).text, cold);
  ok((await answer(random, task("c", "hello", hot))).text !== cold);
});

Deno.test("TextEngine warms up with two tokens and keeps nothing of it", async () => {
  using engine = tinyEngine();
  const before = [liveArrays(), memoryCounters().activeBytes];
  await engine.warmup();
  deepEqual([liveArrays(), memoryCounters().activeBytes], before);
  equal(engine.hasWork(), false);
});

Deno.test("TextEngine holds only its cache over a thousand steps, and nothing after them", async () => {
  using engine = tinyEngine();
  engine.submit(task("a", "hello", { maxTokens: 1200, sampling: { temperature: 1, topP: 0.9 } }));
  const arrays = liveArrays();
  const before = memoryCounters().activeBytes;
  const beyondCache = () => memoryCounters().activeBytes - engine.cacheBytes;
  let afterTen = 0;
  for (let i = 1; i <= 1000; i++) {
    await step(engine);
    if (i === 10) afterTen = beyondCache();
  }
  ok(engine.cacheBytes > 0);
  equal(beyondCache(), afterTen);
  await drain(engine);
  equal(memoryCounters().activeBytes, before);
  equal(memoryCounters().cacheBytes, 0);
  equal(liveArrays(), arrays);
});

Deno.test("TextEngine frees its weights and what is under way when it is closed", async () => {
  const before = [liveArrays(), memoryCounters().activeBytes];
  const engine = tinyEngine();
  engine.submit(task("a", "hello"));
  engine.submit(task("b", "hello"));
  for (let i = 0; i < 10; i++) await step(engine);
  engine.close();
  deepEqual([liveArrays(), memoryCounters().activeBytes], before);
});

const HOT = { sampling: { temperature: 1, topP: 0.95 }, maxTokens: 30 };

Deno.test("TextEngine answers many at once, each as if it were alone", async () => {
  const requests = [
    task("a", "hello", { maxTokens: 30 }),
    task("b", "hello there", { ...HOT, seed: "7" }),
    task("c", "something else that is longer ".repeat(9), { ...HOT, seed: "8" }),
    task("d", "hello", { maxTokens: 5 }),
    task("e", "x", { ...HOT, seed: "9", sampling: { temperature: 0.7, topK: 5 } }),
  ];
  const alone = new Map<string, string>();
  for (const request of requests) {
    using engine = tinyEngine();
    alone.set(request.taskId, (await answer(engine, request)).text);
  }
  const steps: number[][] = [];
  using engine = tinyEngine(
    { prefillChunkTokens: 20, prefixCacheBytes: Infinity },
    watching(steps),
  );
  for (const request of requests) engine.submit(request);
  for (const [taskId, { text }] of await drain(engine)) equal(text, alone.get(taskId), taskId);
  ok(steps.some(({ length }) => length === 5), "all of them in one step");
});

Deno.test("TextEngine goes on with all answers while a long prompt is read", async () => {
  const steps: number[][] = [];
  using engine = tinyEngine({ prefillChunkTokens: 16 }, watching(steps));
  for (const id of ["a", "b", "c"]) engine.submit(task(id, `hello ${id}`, { maxTokens: 60 }));
  while (steps.at(-1)?.join() !== "1,1,1") await step(engine);
  const before = steps.length;
  engine.submit(task("long", "word ".repeat(120), { maxTokens: 1 }));
  for (let i = 0; i < 10; i++) await step(engine);
  const mixed = steps.slice(before);
  ok(mixed.every((rows) => rows.slice(0, 3).join() === "1,1,1"), `${mixed.join(" ")}`);
  ok(mixed.every((rows) => (rows[3] ?? 0) <= 16) && mixed.some((rows) => rows[3] === 16));
});

Deno.test("TextEngine finds a prompt again that it has read, and says so", async () => {
  const steps: number[][] = [];
  using engine = tinyEngine({ prefixCacheBytes: Infinity }, watching(steps));
  const long = "many words ".repeat(30);
  const cold = await answer(engine, task("a", long, { ...HOT, seed: "1" }));
  const { promptTokens } = finishOf(cold).usage;
  equal(finishOf(cold).stats.prefixCacheHit, "none");
  steps.length = 0;
  const warm = await answer(engine, task("b", long, { ...HOT, seed: "1" }));
  equal(warm.text, cold.text);
  deepEqual(steps[0], [1]);
  equal(finishOf(warm).usage.cachedTokens, promptTokens - 1);
  equal(finishOf(warm).stats.prefixCacheHit, "exact");
  const other = await answer(engine, task("c", `${long} and more`, { ...HOT, seed: "1" }));
  const { cachedTokens } = finishOf(other).usage;
  ok(cachedTokens > 100 && cachedTokens < promptTokens, `${cachedTokens}`);
  equal(finishOf(other).stats.prefixCacheHit, "partial");
});

Deno.test("TextEngine neither uses nor keeps prefixes for a request that says so", async () => {
  using engine = tinyEngine({ prefixCacheBytes: Infinity });
  const request = { maxTokens: 3, usePrefixCache: false };
  const before = memoryCounters().activeBytes;
  await answer(engine, task("a", "hello", request));
  equal(memoryCounters().activeBytes, before);
  await answer(engine, task("b", "hello", { maxTokens: 3 }));
  equal(finishOf(await answer(engine, task("c", "hello", request))).usage.cachedTokens, 0);
});

Deno.test("TextEngine reads a prompt once that comes several times at once", async () => {
  const steps: number[][] = [];
  using engine = tinyEngine({ prefixCacheBytes: Infinity }, watching(steps));
  const prompt = "the same words ".repeat(20);
  for (const id of ["a", "b", "c", "d"]) engine.submit(task(id, prompt, { ...HOT, seed: "3" }));
  const outcomes = [...(await drain(engine)).values()];
  equal(new Set(outcomes.map(({ text }) => text)).size, 1);
  const { promptTokens } = finishOf(outcomes[0] ?? fail()).usage;
  const rows = steps.flat().reduce((sum, count) => sum + count, 0);
  equal(rows, promptTokens + 3 + 4 * 29);
});

Deno.test("TextEngine reads prompts that begin alike at once where nothing is kept of them", async () => {
  for (const [prefixCacheBytes, usePrefixCache] of [[0, true], [Infinity, false]] as const) {
    const steps: number[][] = [];
    using engine = tinyEngine({ prefixCacheBytes }, watching(steps));
    const prompt = "the same words ".repeat(4);
    for (const id of ["a", "b"]) engine.submit(task(id, prompt, { maxTokens: 2, usePrefixCache }));
    await drain(engine);
    ok(steps.some((rows) => rows.length === 2 && rows.every((tokens) => tokens > 1)));
  }
});

Deno.test("TextEngine's longest wait leaves out the time for which the request ran", async () => {
  using engine = tinyEngine({ runningMax: 2 });
  for (const id of ["a", "b"]) {
    engine.submit(task(id, "hello", { client: "busy", maxTokens: 90 }));
  }
  for (let i = 0; i < 40; i++) await step(engine);
  engine.submit(task("c", "hello", { client: "rare", maxTokens: 90 }));
  await step(engine);
  const { preemptions, queued, longestWaitMilliseconds } = engine.stats();
  deepEqual([preemptions, queued], [1, 1]);
  // A step takes two milliseconds.
  ok(longestWaitMilliseconds > 0 && longestWaitMilliseconds < 10, `${longestWaitMilliseconds}`);
});

Deno.test("TextEngine keeps within its budget, and gives the same answers", async () => {
  const requests = Array.from(
    { length: 12 },
    (_, i) => task(`t${i}`, `${i} `.repeat(20 + 5 * i), { ...HOT, maxTokens: 150, seed: `${i}` }),
  );
  const alone = new Map<string, string>();
  using ample = tinyEngine();
  for (const request of requests) alone.set(request.taskId, (await answer(ample, request)).text);
  using probe = tinyEngine();
  probe.submit(task("probe", "x", { maxTokens: 2 }));
  await step(probe);
  const blockBytes = probe.cacheBytes;
  for (const prefixCacheBytes of [0, 4 * blockBytes, Infinity]) {
    const kvBudgetBytes = 16 * blockBytes;
    using engine = tinyEngine({ kvBudgetBytes, prefixCacheBytes, contextTokens: 512 });
    const before = memoryCounters().activeBytes;
    const given = requests.map((request) => engine.submit(request).promptTokens);
    const texts = new Map<string, string>();
    while (engine.hasWork()) {
      for (const [taskId, response] of engine.step()) {
        if (response.type !== "chunk" || response.chunk.type !== "Token") continue;
        texts.set(taskId, (texts.get(taskId) ?? "") + response.chunk.text);
      }
      ok(engine.cacheBytes <= kvBudgetBytes, `${engine.cacheBytes} of ${kvBudgetBytes}`);
      ok(engine.cacheBytes - engine.stats().memory.kvBytes <= prefixCacheBytes);
    }
    deepEqual(texts, new Map([...texts.keys()].map((id) => [id, alone.get(id)])));
    equal(texts.size, requests.length);
    const { preemptions, promptTokens, cachedTokens, prefillTokens } = engine.stats();
    ok(preemptions > 0, "memory was short");
    equal(promptTokens, given.reduce((sum, one) => sum + one), "each is counted once");
    if (prefixCacheBytes === 0) ok(prefillTokens > promptTokens - cachedTokens, "and read again");
    engine.clearPrefixCache();
    equal(memoryCounters().activeBytes, before);
  }
});

Deno.test("TextEngine ends a request that is alone when there is no memory for it", async () => {
  let spare = 2 ** 30;
  using engine = tinyEngine({ spareBytes: () => spare });
  const { chunks, last } = await (async () => {
    engine.submit(task("a", "hello", { maxTokens: 500 }));
    for (let i = 0; i < 5; i++) await step(engine);
    spare = 0;
    return (await drain(engine)).get("a") ?? fail();
  })();
  const end = chunks.at(-1);
  equal(end?.type === "Error" && end.error.code, "out_of_memory");
  equal(last, "finished");
  spare = 2 ** 30;
  equal((await answer(engine, task("b", "hello", { maxTokens: 3 }))).text.length > 0, true);
});

Deno.test("TextEngine fails only the one of a batch whose step cannot be computed", async () => {
  using engine = tinyEngine({}, (decoder) =>
    running(decoder, (inputs) => {
      if (inputs.some(({ cache }) => cache.offset > 120)) throw new Error("out of luck");
      return decoder.run(inputs);
    }));
  engine.submit(task("good", "hello", { maxTokens: 30 }));
  engine.submit(task("bad", "hello ".repeat(40), { maxTokens: 300 }));
  engine.submit(task("fine", "hello hello", { maxTokens: 30 }));
  const outcomes = await drain(engine);
  for (const id of ["good", "fine"]) {
    equal(finishOf(outcomes.get(id) ?? fail()).finishReason, "length");
  }
  equal(outcomes.get("bad")?.chunks.at(-1)?.type, "Error");
});

Deno.test("TextEngine tells how it is doing", async () => {
  using engine = tinyEngine({ runningMax: 2, prefixCacheBytes: Infinity });
  for (const id of ["a", "b", "c"]) engine.submit(task(id, `hello ${id}`, { maxTokens: 9 }));
  for (let i = 0; i < 6; i++) await step(engine);
  const busy = engine.stats();
  deepEqual([busy.running, busy.queued, busy.batchSize, busy.requests], [2, 1, 2, 3]);
  ok(busy.longestWaitMilliseconds > 0 && busy.generatedTokens > 0);
  equal(busy.prefillTokens, busy.promptTokens - busy.cachedTokens);
  ok(busy.memory.kvBytes > 0 && busy.memory.weightBytes > 0);
  await drain(engine);
  const idle = engine.stats();
  deepEqual([idle.running, idle.queued, idle.batchSize, idle.generatedTokens], [0, 0, 0, 27]);
  equal(idle.memory.kvBytes, 0);
  ok(idle.memory.prefixCacheBytes > 0 && idle.cachedTokens > 0);
});

Deno.test("TextEngine counts a prompt when it begins, and nothing of the warm-up", async () => {
  using engine = tinyEngine({ runningMax: 1, prefillChunkTokens: 4 });
  engine.warmup();
  const { memory, ...idle } = engine.stats();
  ok(Object.values(idle).every((count) => count === 0));
  deepEqual([memory.kvBytes, memory.kvBudgetBytes], [0, 2 ** 30]);
  const { promptTokens } = engine.submit(task("a", "hello", { maxTokens: 3 }));
  engine.submit(task("b", "hello", { maxTokens: 1 }));
  await step(engine);
  const first = engine.stats();
  deepEqual([first.running, first.queued, first.batchSize, first.steps], [1, 1, 1, 1]);
  equal(first.promptTokens, promptTokens);
  ok(first.prefillTokens > 0 && first.prefillTokens < promptTokens, "a chunk of it");
  await drain(engine);
  const over = engine.stats();
  deepEqual([over.requests, over.promptTokens, over.generatedTokens], [2, 2 * promptTokens, 4]);
});

Deno.test("TextEngine's counts fit their frame, whatever its budget was made of", () => {
  using engine = tinyEngine({ kvBudgetBytes: 0.8 * 1001, spareBytes: () => 700.4 });
  const counts = engine.stats();
  deepEqual(EngineCounts.parse(counts), counts);
});

Deno.test("TextEngine tells where a task's time went just before its end, where tracing is on", async () => {
  const tracing = { rank: 0, originMs: 0 };
  using engine = tinyEngine({ tracing, prefillChunkTokens: 4 });
  const { promptTokens } = engine.submit(task("a", "a secret", { maxTokens: 70 }));
  engine.submit(task(CANCEL_ME, "hello"));
  const responses: TaskResponse[] = [];
  while (engine.hasWork()) {
    responses.push(...await step(engine));
    engine.cancel(CANCEL_ME);
  }
  const kinds = responses.map(([taskId, { type }]) => `${taskId} ${type}`);
  deepEqual(kinds.slice(-2), ["a traced", "a finished"]);
  const at = kinds.indexOf(`${CANCEL_ME} cancelled`);
  equal(kinds[at - 1], `${CANCEL_ME} traced`);
  const [, traced] = responses.at(-2) ?? [];
  ok(traced?.type === "traced");
  const chunks = traced.spans.filter(({ category }) => category === "prefill/chunk");
  const count = (category: string) =>
    traced.spans.filter((one) => one.category === category).length;
  deepEqual(
    ["queue", "prefill", "prefill/chunk", "decode", "decode/step"].map(count),
    [1, 1, chunks.length, 1, 1],
  );
  const tokens = chunks.map(({ name }) => Number(/^chunk of (\d+) tokens$/.exec(name)?.[1]));
  equal(tokens.reduce((sum, one) => sum + one), promptTokens);
  ok(!JSON.stringify(traced.spans).includes("secret"));
});

Deno.test("TextEngine tells nothing of where time went unless it is asked", async () => {
  using engine = tinyEngine();
  engine.submit(task("a", "hello", { maxTokens: 2 }));
  const responses: TaskResponse[] = [];
  while (engine.hasWork()) responses.push(...await step(engine));
  ok(responses.every(([, { type }]) => type !== "traced"));
});

/** Bytes of a block of the tiny model's keys and values. */
async function blockBytesOf(engine: TextEngine): Promise<number> {
  engine.submit(task("probe", "x", { maxTokens: 2, usePrefixCache: false }));
  await step(engine);
  const { cacheBytes } = engine;
  await drain(engine);
  return cacheBytes;
}

Deno.test("TextEngine answers a prompt again that fills its memory", async () => {
  using probe = tinyEngine();
  const kvBudgetBytes = 4 * await blockBytesOf(probe);
  using engine = tinyEngine({ kvBudgetBytes, prefixCacheBytes: Infinity, contextTokens: 128 });
  const long = task("a", "ab ".repeat(42));
  const { promptTokens } = engine.submit(long);
  ok(promptTokens > 96 && promptTokens < 128, `${promptTokens}`);
  const first = (await drain(engine)).get("a") ?? fail();
  const again = await answer(engine, { ...long, taskId: TaskId.parse("b") });
  equal(again.text, first.text);
  ok(finishOf(again).usage.cachedTokens > 0);
});

Deno.test("TextEngine gives up no more of what it keeps than it must", async () => {
  let spare = 2 ** 30;
  using engine = tinyEngine({ prefixCacheBytes: Infinity, spareBytes: () => spare });
  for (const id of ["a", "b", "c"]) {
    await answer(engine, task(id, `${id} `.repeat(90), { maxTokens: 2 }));
  }
  const kept = engine.cacheBytes;
  spare = -1;
  engine.relieve();
  ok(engine.cacheBytes < kept && engine.cacheBytes > kept / 2, `${engine.cacheBytes} of ${kept}`);
  spare = -kept;
  engine.relieve();
  equal(engine.cacheBytes, 0);
});

Deno.test("TextEngine waits for memory a while before it fails a request", async () => {
  let [ms, spare] = [0, 2 ** 30];
  using engine = tinyEngine({ spareBytes: () => spare, now: () => ms });
  engine.submit(task("a", "hello", { maxTokens: 200 }));
  for (let i = 0; i < 5; i++) await step(engine);
  spare = -(2 ** 30);
  for (; ms < STARVE_MS_MAX; ms += 100) {
    ok((await step(engine)).every(([, r]) => r.type === "chunk"));
  }
  spare = 2 ** 30;
  equal(finishOf((await drain(engine)).get("a") ?? fail()).finishReason, "length");
});

Deno.test("TextEngine computes again what a broken step left, and answers as if it had not been", async () => {
  const requests = ["a", "b", "c"].map((id) => task(id, `hello ${id}`, { maxTokens: 40 }));
  const alone = new Map<string, string>();
  for (const request of requests) {
    using engine = tinyEngine();
    alone.set(request.taskId, (await answer(engine, request)).text);
  }
  let steps = 0;
  using engine = tinyEngine(
    { prefixCacheBytes: Infinity },
    (decoder) =>
      running(decoder, (inputs) => {
        const output = decoder.run(inputs); // The caches have advanced.
        if (++steps % 7 === 0 && inputs.length > 1) throw new Error("too late");
        return output;
      }),
  );
  for (const request of requests) engine.submit(request);
  for (const [taskId, { text }] of await drain(engine)) equal(text, alone.get(taskId), taskId);
  ok(steps > 30);
});

Deno.test("TextEngine keeps nothing of a request that failed", async () => {
  using engine = tinyEngine(
    { prefixCacheBytes: Infinity },
    (decoder) =>
      running(decoder, (inputs) => {
        if (inputs.some(({ cache }) => cache.offset > 120)) throw new Error("out of luck");
        return decoder.run(inputs);
      }),
  );
  const prompt = "hello ".repeat(15);
  equal((await answer(engine, task("a", prompt))).chunks.at(-1)?.type, "Error");
  const { usage } = finishOf(await answer(engine, task("b", prompt, { maxTokens: 2 })));
  equal(usage.cachedTokens, 0);
});

function fail(): never {
  throw new Error("it is there");
}

Deno.test("TextEngine admits a long prompt beside another where a window leaves room for both", async () => {
  let blockBytes = 0;
  const prefillChunkTokens = 32; // With a window of 24 positions they lie in 3 blocks.
  const engineOf = (blocks: number) =>
    tinyEngine({ prefillChunkTokens, kvBudgetBytes: blocks * blockBytes }, (decoder) => {
      using probe = decoder.makeCache();
      blockBytes = probe.bytesFor(1);
      return decoder;
    }, "tiny-window");
  engineOf(0).close(); // To learn what a block takes.
  const [prompt, options] = ["hello ".repeat(100), { maxTokens: 2 }];
  using engine = engineOf(12);
  const { promptTokens } = engine.submit(task("a", prompt, options));
  ok(promptTokens > 12 * 32);
  const step = () => [...engine.step()];
  step();
  engine.submit(task("b", prompt, options));
  step();
  equal(engine.stats().running, 2);
  for (const { last } of (await drain(engine)).values()) equal(last, "finished");
});

/** Prompts between engines of several ranks: whatever the layouts, the tokens of one engine. */
import assert from "node:assert/strict";
import { TaskId } from "../../../core/ids.ts";
import { REMOTE_BANDWIDTH_SHARE } from "../../../core/prefill_choice.ts";
import { RING_BYTES_MIN } from "../../../core/ring.ts";
import type { TextEngine, TextEngineParts } from "../../../engines/text_engine.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { randomLlama } from "../../support/eight_heads_llama.ts";
import {
  engineOver,
  type Layout,
  ModelStages,
  type StagesOptions,
  WholeModel,
} from "../../support/model_stages.ts";
import { answersOf, longPrompt } from "../../support/prefill_engines.ts";
import { type Answer, PrefillPair } from "../../support/prefill_pair.ts";
import { Random } from "../../support/random.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { ask } from "../../support/test_node.ts";

await ensureSetup();

type Payload = ReturnType<typeof ask>;

const PARTS = {
  ...{ contextTokens: 4_096, prefillChunkTokens: 256, runningMax: 8 },
  prefill: { weights: "w", mode: "always" },
} as const;

/** A layout of pipelines, or all of the model in one. */
type Source = readonly number[] | "whole";

/** Engines over one model, in any layout. */
class World implements AsyncDisposable {
  readonly #owned = new AsyncDisposableStack();
  readonly #path: string;

  private constructor(dir: TempDir) {
    this.#owned.use(dir);
    this.#path = `${dir.path}/random`;
  }

  static async make(): Promise<World> {
    const world = new World(await TempDir.make());
    await randomLlama(world.#path);
    return world;
  }

  stages(layout: Layout, options: StagesOptions = {}): ModelStages {
    return this.#owned.use(new ModelStages(this.#path, layout, options));
  }

  /** Whoever uses it closes it. */
  engine(
    source: Source | ModelStages,
    seed = 1,
    parts: Partial<TextEngineParts> = {},
  ): TextEngine {
    const random = new Random(seed);
    const mayPass = () => random.next() < 0.5;
    const model = source === "whole"
      ? this.#owned.use(new WholeModel(this.#path))
      : source instanceof ModelStages
      ? source
      : this.stages(source, { mayPass });
    return engineOver(this.#path, model.decoder, { ...PARTS, ...parts });
  }

  /** What one engine says by itself. */
  alone(payload: Payload): readonly number[] {
    const taskId = TaskId.parse("alone");
    const engine = this.engine("whole");
    engine.submit({ taskId, payload });
    const ids = answersOf(engine).get(taskId);
    engine.close();
    assert.ok(ids && ids.length > 0);
    return ids;
  }

  [Symbol.asyncDispose]() {
    return this.#owned.disposeAsync();
  }
}

/** That the other engine has read all of it but the last block. */
function assertRead({ end, request, finish }: Answer, decode: TextEngine): void {
  assert.deepEqual(end, {}, "all of it came");
  assert.ok(request);
  assert.equal(decode.stats().prefillTokens, finish.usage.promptTokens - request.stopPos);
}

const PAIRS: readonly (readonly [prefill: Source, decode: Source])[] = [
  [[1, 3], "whole"],
  ["whole", [2, 2]],
  [[2, 2], [1, 2, 1]],
  [[1, 1, 1, 1], [3, 1]],
];

for (const [from, to] of PAIRS) {
  Deno.test(`a prompt that layers ${from} read for layers ${to} has the tokens of one engine`, async () => {
    await using world = await World.make();
    for (const seed of [1, 2, 3]) {
      using pair = new PrefillPair(world.engine(to, seed), world.engine(from, seed + 10));
      const payload = longPrompt(`once ${seed}`);
      const answer = pair.answer(payload);
      assert.deepEqual(answer.ids, world.alone(payload));
      assertRead(answer, pair.decode);
    }
  });
}

Deno.test("between layouts nothing is sent that the asker has, and others are answered meanwhile", async () => {
  await using world = await World.make();
  using pair = new PrefillPair(world.engine([2, 2], 5), world.engine([1, 2, 1], 6));
  const short = longPrompt("once", 40);
  assert.deepEqual(pair.answer(short).ids, world.alone(short));
  const [own, taskId] = [ask("The river", { maxTokens: 40 }), TaskId.parse("own")];
  pair.prefill.submit({ taskId, payload: own });
  const said: number[] = [];
  const payload = longPrompt("once", 400);
  const answer = pair.answer(payload, {
    beside: ([, response]) => {
      if (response.type !== "chunk" || response.chunk.type !== "Token") return;
      said.push(response.chunk.tokenId);
    },
  });
  assert.ok(answer.request && answer.request.startPos > 0);
  assert.deepEqual(answer.end, {});
  assert.deepEqual(answer.ids, world.alone(payload));
  assert.deepEqual(said, world.alone(own));
});

Deno.test("a rank of the asker without memory for what comes: it reads by itself, and is whole", async () => {
  await using world = await World.make();
  // The first of the reader's chunks fits, or none.
  for (const blocksMax of [[Infinity, 12], [12, Infinity], [Infinity, 0]]) {
    const stages = world.stages([2, 2], { blocksMax });
    using pair = new PrefillPair(world.engine(stages), world.engine("whole"));
    const payload = longPrompt("once");
    const answer = pair.answer(payload);
    assert.match(answer.end?.error?.message ?? "", /no memory/);
    assert.deepEqual(answer.ids, world.alone(payload));
    const kept = answer.finish.usage.promptTokens - pair.decode.stats().prefillTokens;
    assert.ok(blocksMax.includes(0) ? kept === 0 : kept > 100 && kept <= 12 * 32, `${kept} kept`);
    const [first, second] = stages.cacheBytes;
    assert.equal(first, second, "all ranks hold the same");
    pair.decode.clearPrefixCache();
    assert.equal(stages.held, 0);
    assert.deepEqual(stages.cacheBytes, [0, 0]);
  }
});

Deno.test("a rank of the reader that is gone midway: the asker reads on by itself", async () => {
  await using world = await World.make();
  const whole = new PrefillPair(world.engine([2, 2]), world.engine([1, 3]));
  const total = whole.answer(longPrompt("once")).bytes;
  whole[Symbol.dispose]();
  for (const share of [0.1, 0.6]) {
    const stages = world.stages([1, 3]);
    using pair = new PrefillPair(world.engine([2, 2]), world.engine(stages));
    const deaths: unknown[] = [];
    const payload = longPrompt("once");
    const { ids, end, bytes } = pair.answer(payload, {
      onNews: (sent) => {
        if (sent > share * total) stages.breakBy(1);
        return undefined;
      },
      onDeath: (cause) => deaths.push((cause as { code?: string }).code),
    });
    assert.deepEqual(deaths, ["group_broken"]);
    assert.equal(end?.error?.message, "gone");
    assert.ok(bytes > 0 && bytes < total);
    assert.deepEqual(ids, world.alone(payload));
  }
});

Deno.test("a step that fails on another rank of the reader: the asker reads on by itself", async () => {
  await using world = await World.make();
  const stages = world.stages([1, 3]);
  using pair = new PrefillPair(world.engine("whole"), world.engine(stages));
  const [, second] = stages.parts;
  assert.ok(second);
  const run = second.run.bind(second);
  second.run = (inputs, rows) => {
    if (inputs.some(({ cache }) => cache.offset > 500)) throw new Error("no luck");
    return run(inputs, rows);
  };
  const payload = longPrompt("once");
  const { ids, end, bytes } = pair.answer(payload);
  assert.match(end?.error?.message ?? "", /no luck/);
  assert.ok(bytes > 0, "what all ranks had computed before it came");
  assert.deepEqual(ids, world.alone(payload));
});

Deno.test("a rank of the asker that is gone ends it, whatever is under way", async () => {
  await using world = await World.make();
  const stages = world.stages([2, 2]);
  using pair = new PrefillPair(world.engine(stages), world.engine("whole"));
  const onNews = () => {
    stages.breakBy(1);
    return undefined;
  };
  assert.throws(() => pair.answer(longPrompt("once"), { onNews }), { code: "group_broken" });
});

Deno.test("whoever asked is cancelled midway: no rank of either side holds anything for it", async () => {
  await using world = await World.make();
  const dir = await Deno.makeTempDir();
  const [asking, reading] = [world.stages([1, 3]), world.stages([2, 2])];
  const [decode, prefill] = [world.engine(asking), world.engine(reading)];
  const [taskId, transferId] = [TaskId.parse("asked"), TaskId.parse("transfer")];
  decode.submit({ taskId, payload: longPrompt("once"), prefill: {} });
  const [first] = [...decode.step()];
  assert.ok(first?.[1].type === "prefillWanted");
  const ring = { path: `${dir}/ring`, bytes: RING_BYTES_MIN };
  prefill.prefills?.serve({ taskId: transferId, request: first[1].request, ring });
  let bytes = 0;
  // Some of it is there, and more on its way from the other rank, when nobody wants it any more.
  for (let i = 0; bytes === 0 || i < 12; i++) {
    for (const [, response] of prefill.step()) {
      if (response.type === "prefillFlow") bytes = response.bytes;
    }
  }
  decode.prefills?.flow(taskId, { bytes: bytes - 100, ring });
  for (const _ of decode.step());
  decode.cancel(taskId);
  const ends: string[] = [];
  while (decode.hasWork()) for (const [, { type }] of decode.step()) ends.push(type);
  assert.deepEqual(ends, ["prefillFlow", "cancelled"]);
  prefill.prefills?.flow(transferId, { bytes: 0, end: {} });
  while (prefill.hasWork()) for (const _ of prefill.step());
  for (const [engine, stages] of [[decode, asking], [prefill, reading]] as const) {
    engine.clearPrefixCache();
    assert.equal(stages.held, 0);
    assert.deepEqual(stages.cacheBytes, [0, 0]);
    const payload = longPrompt("other");
    engine.submit({ taskId, payload });
    assert.deepEqual(answersOf(engine).get(taskId), world.alone(payload), "and both serve on");
    engine.close();
  }
  await Deno.remove(dir, { recursive: true });
});

Deno.test("the bytes of all ranks count where it is estimated who reads a prompt sooner", async () => {
  await using world = await World.make();
  const payload = longPrompt("once");
  /** Whether one is asked that computes in no time, where all takes so many times as long to carry. */
  const isAsked = (times: number): boolean => {
    let ms = 0;
    const parts = { now: () => ms += 50, prefill: { weights: "w", mode: "auto" } } as const;
    using pair = new PrefillPair(world.engine([1, 3], 1, parts), world.engine("whole"));
    pair.decode.warmup();
    const pace = pair.decode.prefills?.tokensPerSecond;
    assert.ok(pace);
    // Of four layers, each with four KV heads of 16 and 16 numbers of two bytes.
    const bytesPerSecond = 4 * 4 * (16 + 16) * 2 * pace / times;
    const bitsPerSecond = 8 * bytesPerSecond / REMOTE_BANDWIDTH_SHARE;
    const { request } = pair.answer(payload, {}, { tokensPerSecond: 1e9, bitsPerSecond });
    return request !== undefined;
  };
  assert.ok(isAsked(0.8));
  assert.ok(!isAsked(1.2));
});

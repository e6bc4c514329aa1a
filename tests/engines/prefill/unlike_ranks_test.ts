/** A group one rank of which keeps keys and values otherwise (MLX beside CPU kernels). */
import assert from "node:assert/strict";
import { TaskId } from "../../../core/ids.ts";
import type { GenerationTask } from "../../../engines/engine.ts";
import type { TextEngine } from "../../../engines/text_engine.ts";
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
import { PrefillPair } from "../../support/prefill_pair.ts";
import { TempDir } from "../../support/temp_dir.ts";

await ensureSetup();

const PARTS = {
  ...{ contextTokens: 4096, prefillChunkTokens: 256, runningMax: 4 },
  prefill: { weights: "w", mode: "always" },
} as const;

/** A model in one part and over ranks, and engines over either. */
async function world(layout: Layout, options: StagesOptions = {}) {
  const owned = new AsyncDisposableStack();
  const path = `${owned.use(await TempDir.make()).path}/random`;
  await randomLlama(path);
  const whole = owned.use(new WholeModel(path));
  const stages = owned.use(new ModelStages(path, layout, options));
  return {
    stages,
    engineOf: ({ decoder }: WholeModel | ModelStages) => engineOver(path, decoder, PARTS),
    whole,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Reads a prompt of a client of its own; the bytes that it keeps of it. */
function keptOf(engine: TextEngine, others: Partial<GenerationTask> = {}): number {
  engine.submit({ taskId: TaskId.parse("own"), payload: longPrompt("mine"), ...others });
  assert.equal(answersOf(engine).size, 1);
  return engine.stats().memory.prefixCacheBytes;
}

for (const layout of [[2, 2], [1, 2, 1], { slices: 2 }] as const) {
  Deno.test(`ranks that do not keep keys and values alike read no prompts for others: ${JSON.stringify(layout)}`, async () => {
    const last = ("slices" in layout ? layout.slices : layout.length) - 1;
    for (const otherwise of [[0], [1], [last], []]) {
      await using made = await world(layout, { otherwise });
      const isAlike = otherwise.length === 0;
      assert.equal(made.stages.decoder.kvBytes !== undefined, isAlike);
      const engine = made.engineOf(made.stages);
      assert.equal(engine.prefills !== undefined, isAlike);
      // Slices compute no steps in one thread.
      if (!isAlike && !("slices" in layout)) {
        assert.ok(keptOf(engine, { prefill: {} }) > 0, "it reads its own");
      }
      engine.close();
    }
  });
}

Deno.test("what cannot be passed on leaves a group the prefixes of its own clients", async () => {
  await using made = await world([2, 2]);
  const reader = made.engineOf(made.stages);
  using pair = new PrefillPair(made.engineOf(made.whole), reader);
  reader.warmup();
  const before = keptOf(reader);
  assert.ok(before > 0);
  // Other than it has said when the ranks met.
  Object.assign(made.stages.parts[1] ?? {}, { kvBytes: undefined });
  const { end, ids } = pair.answer(longPrompt("once"));
  assert.equal(ids.length, 12, "the prompt is read where it was asked");
  assert.equal(end?.error?.code, "invalid_request");
  assert.ok(reader.stats().memory.prefixCacheBytes >= before);
});

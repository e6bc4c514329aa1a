import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { GroupSpec } from "../../core/group.ts";
import type { BoundModel, Engine } from "../../engines/engine.ts";
import { TextBuilder } from "../../engines/text_builder.ts";
import { ensureSetup, liveArrays, memoryCounters, resetPeakMemory } from "../../ffi/mod.ts";
import { bind, goldenPath, SMOLLM2, task } from "./golden.ts";

await ensureSetup();

/** The engine over a model, as a runner would bring it up, and the progress it saw. */
function bringUp(model: BoundModel): { engine: Engine; progress: string[] } {
  const builder = new TextBuilder();
  const progress: string[] = [];
  for (const { layersLoaded, totalLayers } of builder.load(model)) {
    progress.push(`${layersLoaded}/${totalLayers}`);
  }
  const engine = builder.build();
  builder.close();
  return { engine, progress };
}

/** What an engine says to one request, and how it ends. */
async function say(
  engine: Engine,
  request: ReturnType<typeof task>,
): Promise<{ text: string; end: string }> {
  engine.submit(request);
  let [text, end] = ["", ""];
  while (engine.hasWork()) {
    for await (const [, response] of engine.step()) {
      if (response.type !== "chunk") continue;
      if (response.chunk.type === "Token") text += response.chunk.text;
      if (response.chunk.type === "Finish") end = response.chunk.finishReason;
    }
  }
  return { text, end };
}

for (const name of ["tiny-tied", "tiny-gguf.gguf"]) {
  Deno.test(`TextBuilder brings up ${name} and takes nothing with it`, async () => {
    const before = [liveArrays(), memoryCounters().activeBytes];
    const { engine, progress } = bringUp(bind(goldenPath(`models/${name}`)));
    deepEqual(progress, ["1/2", "2/2"]);
    await engine.warmup();
    const { text } = await say(engine, task("a", "The river", { maxTokens: 10 }));
    ok(text.length > 0);
    engine.close();
    deepEqual([liveArrays(), memoryCounters().activeBytes], before);
  });
}

Deno.test("TextBuilder heeds the instance's context, queue and sampling", async () => {
  const { engine } = bringUp(bind(goldenPath("models/tiny-tied"), {
    contextTokens: 40,
    maxConcurrentRequests: 1,
    samplingDefaults: { temperature: 0 },
  }));
  throws(() => engine.submit(task("a", "x".repeat(50))), { message: /the context of 40/ });
  const hot = { sampling: {}, maxTokens: 5 };
  const first = (await say(engine, task("b", "hello", { ...hot, seed: "1" }))).text;
  equal((await say(engine, task("c", "hello", { ...hot, seed: "2" }))).text, first);
  // One at a time: the second gets its first token once the first is over.
  for (const id of ["d", "e"]) engine.submit(task(id, `hello ${id}`, { maxTokens: 2 }));
  const order: string[] = [];
  while (engine.hasWork()) for (const [taskId] of engine.step()) order.push(taskId);
  deepEqual(order, [...order].sort());
  engine.close();
});

Deno.test("TextBuilder ends answers with the tokens that the card names", () => {
  const model = bind(goldenPath("models/tiny-tied"), { samplingDefaults: { temperature: 0 } });
  const tokensOf = (eosTokenIds: number[]) => {
    const modelCard = { ...model.shard.modelCard, eosTokenIds };
    const { engine } = bringUp({ ...model, shard: { ...model.shard, modelCard } });
    engine.submit(task("a", "The river", { maxTokens: 4, sampling: {} }));
    const ids: number[] = [];
    let reason = "";
    while (engine.hasWork()) {
      for (const [, response] of engine.step()) {
        if (response.type !== "chunk") continue;
        const { chunk } = response;
        if (chunk.type === "Token") ids.push(chunk.tokenId);
        if (chunk.type === "Finish") reason = chunk.finishReason;
      }
    }
    engine.close();
    return { ids, reason };
  };
  const { ids, reason } = tokensOf([]);
  equal(reason, "length");
  const [, second = 0] = ids;
  deepEqual(tokensOf([second]), { ids: ids.slice(0, ids.indexOf(second)), reason: "stop" });
});

Deno.test("TextBuilder heeds the instance's KV bits", async () => {
  const cacheBytes = async (kvBits?: 8 | 4) => {
    const { engine } = bringUp(bind(goldenPath("models/tiny-tied"), { kvBits }));
    await engine.warmup();
    const before = memoryCounters().activeBytes;
    engine.submit(task("a", "The river", { maxTokens: 2 }));
    const taken: number[] = [];
    while (engine.hasWork()) {
      for await (const _ of engine.step());
      taken.push(memoryCounters().activeBytes - before);
    }
    engine.close();
    return Math.max(...taken);
  };
  const [plain, eight, four] = [await cacheBytes(), await cacheBytes(8), await cacheBytes(4)];
  ok(four < eight && eight < plain, `${four}, ${eight}, ${plain} bytes`);
});

Deno.test("TextBuilder refuses a part of a model", () => {
  const model = bind(goldenPath("models/tiny-tied"));
  const half = { ...model, shard: { ...model.shard, endLayer: 1 } };
  throws(() => bringUp(half), {
    code: "load_failed",
    message: /layers 0 to 1 of 2/,
  });
});

Deno.test("TextBuilder says at once what an instance over RDMA needs, and what to do", async () => {
  if (Deno.build.os === "darwin") return; // Its MLX has it.
  const hosts = [{ ip: "127.0.0.1", port: 1 }, { ip: "198.51.100.1", port: 1 }];
  const devices = [[null, "rdma_en3"], ["rdma_en3", null]];
  const spec = GroupSpec.parse({
    ...{ groupId: "test", rank: 0, size: 2, names: ["a", "b"] },
    link: { type: "jaccl", hosts, devices, coordinator: "127.0.0.1:1" },
  });
  await rejects(new TextBuilder().connect(spec), {
    code: "group_broken",
    message: "Cannot form a group over jaccl: the MLX of this machine lacks it",
    hint: "place the instance over a ring: exo instance create MODEL --transport ring",
  });
});

Deno.test("TextBuilder frees what it loaded when it is stopped or closed before its engine", () => {
  const before = [liveArrays(), memoryCounters().activeBytes];
  const builder = new TextBuilder();
  for (const _progress of builder.load(bind(goldenPath("models/tiny-tied")))) break;
  deepEqual([liveArrays(), memoryCounters().activeBytes], before);
  for (const _progress of builder.load(bind(goldenPath("models/tiny-tied"))));
  builder.close();
  deepEqual([liveArrays(), memoryCounters().activeBytes], before);
});

Deno.test({
  name: "TextBuilder brings up SmolLM2, which knows the capital of France and keeps no memory",
  ignore: SMOLLM2 === undefined, // Needs the GGUF: EXO_TEST_SMOLLM2_GGUF.
  async fn() {
    resetPeakMemory(); // Other files of this process have had theirs.
    const { engine } = bringUp(bind(SMOLLM2 ?? ""));
    const weightBytes = memoryCounters().activeBytes;
    const { peakBytes } = memoryCounters();
    ok(peakBytes < 1.2 * weightBytes, `${peakBytes} bytes at most, ${weightBytes} of weights`);
    const question = task("a", "What is the capital of France?", {
      ...{ maxTokens: 20, usePrefixCache: false },
    });
    deepEqual(await say(engine, question), {
      text: "The capital of France is Paris.",
      end: "stop",
    });
    equal(memoryCounters().activeBytes, weightBytes);
    engine.close();
    equal(memoryCounters().activeBytes, 0);
  },
});

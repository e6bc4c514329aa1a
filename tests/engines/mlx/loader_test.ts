import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint } from "../../../engines/mlx/checkpoint.ts";
import { loadWeights } from "../../../engines/mlx/loader.ts";
import { type ModelPart, WHOLE_MODEL } from "../../../engines/models/part.ts";
import {
  clearCache,
  ensureSetup,
  liveArrays,
  memoryCounters,
  resetPeakMemory,
} from "../../../ffi/mod.ts";
import { stagesOf } from "../../support/model_parts.ts";
import { randomLlama } from "../../support/random_llama.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { goldenPath, readWeights, SMOLLM2 } from "../golden.ts";

await ensureSetup();

/** Bytes that a part holds once it is loaded, and the most at any time before. */
function memoryOf(path: string, part: ModelPart, isPacked: boolean) {
  clearCache();
  resetPeakMemory();
  const { activeBytes: before } = memoryCounters();
  using _weights = readWeights(openCheckpoint(path), isPacked, part);
  const { activeBytes, peakBytes } = memoryCounters();
  return { held: activeBytes - before, peak: peakBytes - before };
}

const slice = (rank: number, size: number): ModelPart => ({
  type: "slice",
  ...{ rank, size, sum: (x) => x, splitsVocabulary: true },
});

/** Eight layers, large enough that a share shows. */
const LARGE = {
  config: {
    ...{ num_hidden_layers: 8, hidden_size: 256, head_dim: 32, intermediate_size: 512 },
    vocab_size: 1024,
  },
};

for (const isPacked of [true, false]) {
  for (const quantized of [undefined, { groupSize: 32, bits: 4 }]) {
    const what = `packed: ${isPacked}, quantised: ${quantized !== undefined}`;
    Deno.test(`loadWeights() takes the memory of its part, ${what}`, async () => {
      await using dir = await TempDir.make();
      const llama = { ...LARGE, ...(quantized ? { quantized } : {}) };
      const path = await randomLlama(join(dir.path, "llama"), llama);
      const whole = memoryOf(path, WHOLE_MODEL, isPacked).held;
      const stages = stagesOf([2, 5, 1]).map((part) => memoryOf(path, part, isPacked));
      equal(stages.reduce((sum, { held }) => sum + held, 0), whole); // Nothing twice, nothing lost.
      for (const size of [2, 4]) {
        for (let rank = 0; rank < size; rank++) {
          const { held, peak } = memoryOf(path, slice(rank, size), isPacked);
          const share = whole / size;
          ok(held >= share && held < 1.02 * share, `rank ${rank} of ${size}: ${held} of ${whole}`);
          ok(peak < 1.5 * share, `rank ${rank} of ${size}: ${peak} at once, ${held} at last`);
        }
      }
      for (const { held, peak } of stages) ok(peak < 1.5 * held, `${peak} at once for ${held}`);
    });
  }
}

Deno.test("loadWeights() counts the layers of its part", () => {
  const checkpoint = openCheckpoint(goldenPath("models/tiny-tied"));
  const [, last] = stagesOf([1, 1]);
  for (const [part, total] of [[last, 1], [slice(0, 2), 2]] as const) {
    ok(part);
    const progress: number[][] = [];
    const loading = loadWeights(checkpoint, part);
    let step = loading.next();
    for (; !step.done; step = loading.next()) {
      progress.push([step.value.layersLoaded, step.value.totalLayers]);
    }
    step.value[Symbol.dispose]();
    deepEqual(progress, Array.from({ length: total }, (_, i) => [i + 1, total]));
  }
});

Deno.test("loadWeights() of a part returns all memory", () => {
  const before = [liveArrays(), memoryCounters().activeBytes];
  for (const name of ["tiny-quantized", "tiny-sharded", "tiny-gguf.gguf"]) {
    for (const isPacked of [true, false]) {
      for (const part of [...stagesOf([1, 1]), slice(0, 2), slice(1, 2)]) {
        const checkpoint = openCheckpoint(goldenPath(`models/${name}`));
        readWeights(checkpoint, isPacked, part)[Symbol.dispose]();
      }
    }
  }
  deepEqual([liveArrays(), memoryCounters().activeBytes], before);
});

Deno.test({
  name: "parts of SmolLM2-135M-Instruct take the memory of their share",
  ignore: SMOLLM2 === undefined, // Needs the GGUF: EXO_TEST_SMOLLM2_GGUF.
  fn() {
    const path = SMOLLM2 ?? "";
    const whole = memoryOf(path, WHOLE_MODEL, true).held;
    for (const rank of [0, 1, 2]) {
      const { held, peak } = memoryOf(path, slice(rank, 3), true);
      ok(held < 0.34 * whole && peak < 0.36 * whole, `rank ${rank}: ${held}, ${peak} of ${whole}`);
    }
    const [first, middle] = stagesOf([10, 10, 10]).map((part) => memoryOf(path, part, true));
    ok(first && middle);
    const table = first.held - middle.held; // The embedding, which the middle has not.
    ok(Math.abs(3 * middle.held + table - whole) < 0.01 * whole, `${middle.held} of ${whole}`);
  },
});

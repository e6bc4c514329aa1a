import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { join } from "node:path";
import { AppError } from "../../../core/errors.ts";
import { openCheckpoint } from "../../../engines/mlx/checkpoint.ts";
import { loadWeights } from "../../../engines/mlx/loader.ts";
import { WHOLE_MODEL } from "../../../engines/models/part.ts";
import { readGgufHeader } from "../../../engines/text/gguf_file.ts";
import {
  clearCache,
  dequantize,
  ensureSetup,
  fromArray,
  type GgufMatrix,
  GgufPacker,
  liveArrays,
  loadGguf,
  memoryCounters,
  packedRows,
  resetPeakMemory,
  Scope,
  type Tensor,
} from "../../../ffi/mod.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { goldenJson, goldenPath, readWeights, TINY_FOLDERS } from "../golden.ts";

await ensureSetup();

/** The first of a checkpoint's files that are asked for in vain, or other trouble with it. */
function refused(path: string, code: string, message: RegExp): void {
  throws(
    () => readWeights(openCheckpoint(path))[Symbol.dispose](),
    (error) => {
      ok(error instanceof AppError, String(error));
      equal(error.code, code);
      ok(message.test(error.message), error.message);
      return true;
    },
  );
}

/** A copy of a tiny folder, to be damaged. */
async function copyOf(name: string, dir: TempDir): Promise<string> {
  for (const { name: file } of Deno.readDirSync(goldenPath(`models/${name}`))) {
    await Deno.copyFile(goldenPath(`models/${name}/${file}`), join(dir.path, file));
  }
  return dir.path;
}

Deno.test("openCheckpoint() reads what a folder says about its model", () => {
  const checkpoint = openCheckpoint(goldenPath("models/tiny-tied"));
  equal(checkpoint.config["model_type"], "llama");
  deepEqual(checkpoint.eosIds, [2, 0]);
  deepEqual(checkpoint.quantizationOf("model.embed_tokens"), undefined);
});

Deno.test("openCheckpoint() knows what is quantised otherwise than the rest", () => {
  const checkpoint = openCheckpoint(goldenPath("models/tiny-quantized"));
  const affine = { groupSize: 32, mode: "affine" };
  deepEqual(checkpoint.quantizationOf("model.embed_tokens"), { ...affine, bits: 8 });
  deepEqual(checkpoint.quantizationOf("model.layers.0.mlp.up_proj"), { ...affine, bits: 4 });
});

Deno.test("openCheckpoint() reads a GGUF's config in Hugging Face's words", () => {
  const { config, eosIds } = openCheckpoint(goldenPath("models/tiny-gguf.gguf"));
  const folder = openCheckpoint(goldenPath("models/tiny-tied")).config;
  for (const [key, value] of Object.entries(config)) {
    const expected = folder[key] ?? null;
    const isClose = typeof value === "number" && Math.abs(value - Number(expected)) < 1e-9;
    ok(isClose || value === expected, `${key}: ${value}, expected ${expected}`);
  }
  deepEqual(eosIds, [2, 0]);
});

Deno.test("packGguf() reads the values that llama.cpp gives each GGML type", () => {
  const { values } = goldenJson("parity/ggml-types.json");
  const path = goldenPath("models/ggml-types.gguf");
  const { tensors, dataOffset } = readGgufHeader(path);
  for (const { name, type, shape, offset } of tensors) {
    using _scope = new Scope();
    const [inputs = 0, outputs = 1] = shape;
    using packer = new GgufPacker(path, [{ offset: dataOffset + offset, type, outputs, inputs }]);
    using matrix = packer.take(0);
    const ids = fromArray(Int32Array.from({ length: outputs }, (_, i) => i));
    const expected: number[] = values[name.replace(".weight", "")];
    const largest = Math.max(...expected.map(Math.abs));
    packedRows(ids, matrix).toFloat32Array().forEach((value, i) => {
      ok(Math.abs(value - (expected[i] ?? NaN)) <= largest * 1e-6, `${type}: value ${i}`);
    });
  }
  equal(tensors.length, Object.keys(values).length);
});

Deno.test("GgufPacker takes the columns that are asked for, though they begin within a block", () => {
  const { values } = goldenJson("parity/ggml-types.json");
  const path = goldenPath("models/ggml-types.gguf");
  const { tensors, dataOffset } = readGgufHeader(path);
  for (const { name, type, shape, offset } of tensors) {
    using _scope = new Scope();
    const [inputs = 0, outputs = 1] = shape;
    const columns = { from: 96, to: 192 };
    const matrix = { offset: dataOffset + offset, type, outputs, inputs, columns };
    using packer = new GgufPacker(path, [matrix]);
    using packed = packer.take(0);
    deepEqual([packed.outputs, packed.inputs], [1, 96]);
    const expected: number[] = values[name.replace(".weight", "")];
    const largest = Math.max(...expected.map(Math.abs));
    packedRows(fromArray(Int32Array.of(0)), packed).toFloat32Array().forEach((value, i) => {
      ok(Math.abs(value - (expected[96 + i] ?? NaN)) <= largest * 1e-6, `${type}: value ${i}`);
    });
  }
});

Deno.test("GgufPacker refuses columns within a group, and what is not in the matrix", () => {
  const path = goldenPath("models/ggml-types.gguf");
  const matrix = { offset: 0, type: "Q4_K", outputs: 1, inputs: 256 };
  const begin = (cut: Partial<GgufMatrix>) => () => new GgufPacker(path, [{ ...matrix, ...cut }]);
  throws(begin({ columns: { from: 16, to: 48 } }), /columns must be whole groups of 32/);
  throws(begin({ columns: { from: 128, to: 288 } }), /columns 128 to 288 of 256/);
  throws(begin({ rows: { from: 1, to: 2 } }), /rows 1 to 2 of 1/);
});

Deno.test("MLX gives the types that it is asked to load the values of llama.cpp", () => {
  const { values } = goldenJson("parity/ggml-types.json");
  const tensors = loadGguf(goldenPath("models/ggml-types.gguf"));
  using _scope = new Scope();
  for (const [type, expected] of Object.entries<number[]>(values)) {
    const weight = tensors.get(`${type}.weight`) as Tensor;
    const scales = tensors.get(`${type}.scales`)?.astype("float32");
    const biases = tensors.get(`${type}.biases`)?.astype("float32");
    const bits = type === "Q8_0" ? 8 : 4;
    const got = scales && biases
      ? dequantize({ weight, scales, biases }, { groupSize: 32, bits })
      : weight;
    const largest = Math.max(...expected.map(Math.abs));
    got.toFloat32Array().forEach((value, i) => {
      // Some arrive as float16, which rounds to 11 bits.
      ok(Math.abs(value - (expected[i] ?? NaN)) <= largest / 2000, `${type}: value ${i}`);
    });
  }
  for (const tensor of tensors.values()) tensor[Symbol.dispose]();
});

Deno.test("loadWeights() reports each layer and returns all memory", () => {
  const [arrays, { activeBytes }] = [liveArrays(), memoryCounters()];
  const progress: number[] = [];
  const loading = loadWeights(openCheckpoint(goldenPath("models/tiny-sharded")), WHOLE_MODEL);
  let step = loading.next();
  for (; !step.done; step = loading.next()) progress.push(step.value.layersLoaded);
  deepEqual(progress, [1, 2]);
  ok(memoryCounters().activeBytes > activeBytes);
  step.value[Symbol.dispose]();
  equal(liveArrays(), arrays);
  equal(memoryCounters().activeBytes, activeBytes);
});

Deno.test("loadWeights() frees what it has when it is stopped half-way", () => {
  const [arrays, { activeBytes }] = [liveArrays(), memoryCounters()];
  for (const name of ["tiny-bf16", "tiny-gguf.gguf"]) {
    for (
      const { layersLoaded } of loadWeights(
        openCheckpoint(goldenPath(`models/${name}`)),
        WHOLE_MODEL,
      )
    ) {
      if (layersLoaded === 1) break;
    }
  }
  equal(liveArrays(), arrays);
  equal(memoryCounters().activeBytes, activeBytes);
});

Deno.test("loadWeights() needs hardly more memory than the weights take", () => {
  for (const name of [...TINY_FOLDERS.map((n) => `models/${n}`), "models/tiny-gguf.gguf"]) {
    clearCache();
    resetPeakMemory();
    const before = memoryCounters().activeBytes;
    using _weights = readWeights(openCheckpoint(goldenPath(name)));
    const { activeBytes, peakBytes } = memoryCounters();
    const held = activeBytes - before;
    // Tiny models have two layers, so that one layer twice is a large share.
    ok(peakBytes - before <= 2 * held, `${name}: ${peakBytes - before} for ${held}`);
  }
});

Deno.test("openCheckpoint() names what is not there", async () => {
  await using dir = await TempDir.make();
  refused(
    join(dir.path, "gone.gguf"),
    "load_failed",
    /Cannot read "gone.gguf": there is no such file/,
  );
  refused(dir.path, "load_failed", /no "config.json"/);
  const folder = await copyOf("tiny-sharded", dir);
  await Deno.remove(join(folder, "model-00002-of-00002.safetensors"));
  refused(folder, "load_failed", /"model-00002-of-00002.safetensors": there is no such file/);
  await Deno.remove(join(folder, "tokenizer.json"));
  refused(folder, "load_failed", /00002|no "tokenizer.json"/);
});

Deno.test("openCheckpoint() takes all weight files of a folder without an index", async () => {
  await using dir = await TempDir.make();
  const folder = await copyOf("tiny-sharded", dir);
  await Deno.remove(join(folder, "model.safetensors.index.json"));
  using weights = readWeights(openCheckpoint(folder));
  ok(weights.has("model.norm.weight") && weights.has("model.embed_tokens.weight"));
  for (const part of ["00001", "00002"]) {
    await Deno.remove(join(folder, `model-${part}-of-00002.safetensors`));
  }
  refused(folder, "load_failed", /no model\*\.safetensors/);
});

Deno.test("openCheckpoint() names the tensor that a cut file lacks", async () => {
  await using dir = await TempDir.make();
  const folder = await copyOf("tiny-tied", dir);
  const file = join(folder, "model.safetensors");
  await Deno.truncate(file, (await Deno.stat(file)).size - 100);
  refused(folder, "corrupt_model", /"model.safetensors": .* where tensor "model\..*" ends/);
  const gguf = join(dir.path, "cut.gguf");
  await Deno.copyFile(goldenPath("models/tiny-gguf.gguf"), gguf);
  await Deno.truncate(gguf, (await Deno.stat(gguf)).size - 1000);
  refused(gguf, "corrupt_model", /"cut.gguf": .* where tensor ".*" ends/);
});

Deno.test("openCheckpoint() names an index whose tensors are elsewhere", async () => {
  await using dir = await TempDir.make();
  const folder = await copyOf("tiny-tied", dir);
  const index = {
    weight_map: { "model.norm.weight": "model.safetensors", x: "model.safetensors" },
  };
  await Deno.writeTextFile(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
  refused(folder, "corrupt_model", /"model.safetensors" lacks the tensor "x"/);
});

Deno.test("openCheckpoint() refuses quantization and JSON that it does not know", async () => {
  await using dir = await TempDir.make();
  const folder = await copyOf("tiny-tied", dir);
  const config = JSON.parse(await Deno.readTextFile(join(folder, "config.json")));
  const gptq = { ...config, quantization_config: { quant_method: "gptq", bits: 4 } };
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(gptq));
  refused(folder, "unsupported_model", /"gptq"/);
  await Deno.writeTextFile(join(folder, "config.json"), "[]");
  refused(folder, "corrupt_model", /"config.json": it is another JSON value/);
  await Deno.writeTextFile(join(folder, "config.json"), "{");
  refused(folder, "corrupt_model", /"config.json": it is not JSON/);
});

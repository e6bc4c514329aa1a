import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../../core/errors.ts";
import { ModelId } from "../../core/ids.ts";
import {
  modelCardFromConfig,
  parseSafetensorsHeader,
  parseSafetensorsIndex,
  SAFETENSORS_HEADER_BYTES_MAX,
  safetensorsHeaderBytes,
  samplingFromGenerationConfig,
} from "../../core/safetensors.ts";

const TINY = new URL("../golden/models/tiny-bf16/", import.meta.url);
const BYTES = Deno.readFileSync(new URL("model.safetensors", TINY));
const FILE = "model.safetensors";

/** A file with this header and so many bytes of data. */
function fileWith(header: unknown, dataBytes: number): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

function parse(bytes: Uint8Array) {
  return parseSafetensorsHeader(bytes, FILE, bytes.length);
}

const f32 = (length: number, start: number) => ({
  dtype: "F32",
  shape: [length],
  data_offsets: [start, start + 4 * length],
});

function refuses(header: unknown, dataBytes: number, message: RegExp, code = "corrupt_model") {
  throws(
    () => parse(fileWith(header, dataBytes)),
    (error) => error instanceof AppError && error.code === code && message.test(error.message),
  );
}

Deno.test("parseSafetensorsHeader() lists the tensors of a file", () => {
  const { tensors, dataOffset } = parse(BYTES);
  equal(dataOffset, safetensorsHeaderBytes(BYTES.subarray(0, 8), FILE, BYTES.length));
  const embedding = tensors.find(({ name }) => name === "model.embed_tokens.weight");
  deepEqual(embedding && [embedding.dtype, embedding.shape], ["BF16", [320, 64]]);
  equal(tensors.length, 20);
});

Deno.test("parseSafetensorsHeader() names what a cut file lacks", () => {
  const cut = BYTES.subarray(0, BYTES.length - 1);
  throws(() => parse(cut), {
    code: "corrupt_model",
    message: /bytes of data found, \d+ expected, where tensor/,
  });
  throws(() => parse(BYTES.subarray(0, 100)), {
    message: /100 bytes found, \d+ needed by its header/,
  });
  throws(() => parse(BYTES.subarray(0, 5)), { message: /5 bytes found, 8 needed/ });
});

Deno.test("parseSafetensorsHeader() refuses a header that is too long, not all there or no JSON", () => {
  const start = fileWith({}, 0).subarray(0, 8);
  const lengthOf = (bytes: number) => {
    new DataView(start.buffer).setBigUint64(0, BigInt(bytes - 8), true);
    return () => safetensorsHeaderBytes(start, FILE, 2 * SAFETENSORS_HEADER_BYTES_MAX);
  };
  equal(lengthOf(SAFETENSORS_HEADER_BYTES_MAX)(), SAFETENSORS_HEADER_BYTES_MAX);
  throws(lengthOf(SAFETENSORS_HEADER_BYTES_MAX + 1), {
    code: "corrupt_model",
    message: /its header has 100000001 bytes, 100000000 at most possible/,
  });
  throws(() => parseSafetensorsHeader(BYTES.subarray(0, 100), FILE, BYTES.length), {
    code: "corrupt_model",
    message: /100 bytes of its header found, \d+ needed/,
  });
  const broken = fileWith({}, 0);
  broken[8] = 0;
  throws(() => parse(broken), { code: "corrupt_model", message: /its header is not JSON/ });
});

Deno.test("parseSafetensorsHeader() takes tensors without data at the place of others", () => {
  const empty = { dtype: "F32", shape: [0], data_offsets: [0, 0] };
  const names = parse(fileWith({ a: f32(2, 0), none: empty }, 8)).tensors.map(({ name }) => name);
  deepEqual(names, ["a", "none"]);
});

Deno.test("parseSafetensorsHeader() refuses gaps, overlaps, odd sizes and unknown types", () => {
  refuses({ a: f32(2, 0), b: f32(2, 12) }, 20, /"b" begins at data byte 12, 8 expected/);
  refuses({ a: f32(2, 0), b: f32(2, 4) }, 12, /"b" begins at data byte 4/);
  refuses({ a: f32(2, 0) }, 12, /12 bytes of data found, 8 expected/);
  refuses({ a: { ...f32(2, 0), shape: [3] } }, 8, /"a" has 8 bytes, 12 needed for \[3\]/);
  refuses({ a: { ...f32(2, 0), dtype: "F8_E4M3" } }, 8, /F8_E4M3/, "unsupported_model");
  refuses({ a: { dtype: "F32" } }, 8, /"a" is malformed/);
  refuses([1], 0, /an object expected/);
});

Deno.test("parseSafetensorsHeader() never fails but by an AppError, whatever byte is wrong", () => {
  const { dataOffset } = parse(BYTES);
  const byte = fc.integer({ min: 1, max: 255 });
  fc.assert(fc.property(fc.nat(dataOffset - 1), byte, (at, change) => {
    const bytes = BYTES.slice();
    bytes[at] = (bytes[at] ?? 0) ^ change;
    try {
      parse(bytes);
    } catch (error) {
      ok(error instanceof AppError, String(error));
    }
  }));
});

Deno.test("parseSafetensorsIndex() groups tensors by file and stays in the folder", () => {
  const index = JSON.stringify({ weight_map: { a: "x.safetensors", b: "y.safetensors" } });
  deepEqual([...parseSafetensorsIndex(index, "index")], [
    ["x.safetensors", ["a"]],
    ["y.safetensors", ["b"]],
  ]);
  const outside = JSON.stringify({ weight_map: { a: "../x.safetensors" } });
  throws(() => parseSafetensorsIndex(outside, "index"), { code: "corrupt_model" });
  throws(() => parseSafetensorsIndex("{}", "index"), { code: "corrupt_model" });
  throws(() => parseSafetensorsIndex("{", "index"), { code: "corrupt_model" });
});

const CONFIG = JSON.parse(Deno.readTextFileSync(new URL("config.json", TINY)));
const FACTS = { modelId: ModelId.parse("org/tiny"), config: CONFIG, storageBytes: 1000 };

Deno.test("modelCardFromConfig() tells what placement needs", () => {
  const generationConfig = { temperature: 0.6, top_p: 0.9, top_k: 40, eos_token_id: [2] };
  const card = modelCardFromConfig({ ...FACTS, generationConfig, license: "mit" });
  equal(card.architecture, "mistral");
  equal(card.nLayers, 2);
  equal(card.numKeyValueHeads, 2);
  equal(card.contextLength, 2048);
  equal(card.quantization, "");
  equal(card.kvBytesPerToken, 2 * 2 * 2 * 16 * 4);
  equal(card.license, "mit");
  deepEqual(card.samplingDefaults, { temperature: 0.6, topP: 0.9, topK: 40 });
  equal(
    modelCardFromConfig({ ...FACTS, config: { ...CONFIG, quantization: { bits: 4 } } })
      .quantization,
    "4bit",
  );
});

Deno.test("modelCardFromConfig() derives what a config leaves out", () => {
  const { num_key_value_heads: _kv, head_dim: _dim, max_position_embeddings: _max, ...rest } =
    CONFIG;
  const card = modelCardFromConfig({ ...FACTS, config: { ...rest, hidden_size: 66 } });
  equal(card.numKeyValueHeads, 4);
  equal(card.kvBytesPerToken, 2 * 2 * 4 * 16 * 4);
  equal(card.contextLength, 0);
});

Deno.test("modelCardFromConfig() tells of a window that all layers have", () => {
  const { sliding_window: _, ...config } = CONFIG;
  const windowOf = (changes: object) =>
    modelCardFromConfig({ ...FACTS, config: { ...config, ...changes } }).slidingWindow;
  equal(windowOf({}), undefined);
  equal(windowOf({ sliding_window: null }), undefined);
  equal(windowOf({ sliding_window: 24 }), 24);
  const [slides, full] = ["sliding_attention", "full_attention"];
  equal(windowOf({ sliding_window: 24, layer_types: [slides, slides] }), 24);
  equal(windowOf({ sliding_window: 24, layer_types: [slides, full] }), undefined);
});

Deno.test("modelCardFromConfig() refuses unknown architectures and broken configs", () => {
  const card = (config: unknown) => () => modelCardFromConfig({ ...FACTS, config });
  throws(card({ ...CONFIG, model_type: "mamba" }), {
    code: "unsupported_model",
    message: /"mamba": llama or mistral needed/,
  });
  throws(card({ ...CONFIG, num_hidden_layers: 0 }), {
    message: /its num_hidden_layers is 0, a whole number/,
  });
  const { hidden_size: _, ...sizeless } = CONFIG;
  throws(card({ ...sizeless, quantization: { bits: "four" } }), {
    code: "corrupt_model",
    message: 'Cannot read "config.json": its hidden_size is missing, its quantization.bits is ' +
      '"four", a whole number from 1 on expected',
  });
  throws(card({}), { code: "corrupt_model" });
});

Deno.test("samplingFromGenerationConfig() leaves out what is absent or out of range", () => {
  deepEqual(samplingFromGenerationConfig({ temperature: -1, top_k: 5, min_p: null }), { topK: 5 });
  deepEqual(samplingFromGenerationConfig(undefined), {});
  const penalty = (repetition_penalty: number) =>
    samplingFromGenerationConfig({ repetition_penalty });
  deepEqual([penalty(1.05), penalty(0)], [{ repetitionPenalty: 1.05 }, {}]);
});

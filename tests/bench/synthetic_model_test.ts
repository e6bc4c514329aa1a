import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import { type SyntheticShape, writeSyntheticModel } from "../../bench/synthetic_model.ts";
import { decoderOf, usesCpuKernels } from "../../engines/decoder.ts";
import { readGgufHeader } from "../../engines/text/gguf_file.ts";
import { ensureSetup, Scope } from "../../ffi/mod.ts";
import { ggufTokenizer, goldenPath, loadModel } from "../engines/golden.ts";
import { TempDir } from "../support/temp_dir.ts";

await ensureSetup();

const SHAPE: SyntheticShape = {
  name: "tiny",
  ...{ layers: 2, hidden: 128, feedForward: 160, heads: 4, kvHeads: 2, contextTokens: 64 },
};

const LENDER = goldenPath("models/tiny-gguf.gguf");

async function write(folder: string, name: string, seed?: number): Promise<string> {
  const path = join(folder, name);
  const tokenizer = readGgufHeader(LENDER);
  await writeSyntheticModel(path, {
    ...{ shape: SHAPE, tokenizer },
    ...(seed === undefined ? {} : { seed }),
  });
  return path;
}

Deno.test("A synthetic model has its shape, and the tokenizer that was lent", async () => {
  await using folder = await TempDir.make();
  const path = await write(folder.path, "a.gguf");
  const [header, lender] = [readGgufHeader(path), readGgufHeader(LENDER)];
  const text = "Some words, 12 and more.";
  deepEqual(ggufTokenizer(path).encode(text), ggufTokenizer(LENDER).encode(text));
  for (const [key, value] of lender.metadata) {
    if (key.startsWith("tokenizer.")) deepEqual(header.metadata.get(key), value, key);
  }
  const types = new Set(header.tensors.map(({ name, type }) => `${/norm/.test(name)} ${type}`));
  deepEqual(types, new Set(["false Q4_1", "true F32"]));
  equal(header.tensors.length, 2 + 9 * SHAPE.layers);
  const last = header.tensors.at(-1);
  const { size } = await Deno.stat(path);
  equal(size, header.dataOffset + (last?.offset ?? 0) + (last?.bytes ?? 0));
});

Deno.test("Two synthetic models of one seed are the same, of two seeds are not", async () => {
  await using folder = await TempDir.make();
  const read = async (name: string, seed?: number) =>
    (await Deno.readFile(await write(folder.path, name, seed))).toBase64();
  const first = await read("a.gguf");
  equal(await read("b.gguf"), first);
  ok(await read("c.gguf", 2) !== first);
});

Deno.test("A synthetic model computes with numbers of a sensible size", async () => {
  await using folder = await TempDir.make();
  const { model, weights } = loadModel(await write(folder.path, "a.gguf"));
  using _weights = weights;
  using decoder = decoderOf(model, usesCpuKernels());
  using cache = decoder.makeCache();
  using _scope = new Scope();
  const output = await decoder.run([{ cache, ids: [1, 2, 3, 4], logitsCount: 1 }]);
  const logits = output.logits(0).toFloat32Array();
  equal(logits.length, model.vocabSize);
  const deviation = Math.sqrt(logits.reduce((sum, x) => sum + x * x, 0) / logits.length);
  ok(deviation > 0.3 && deviation < 3, `deviation ${deviation}`);
});

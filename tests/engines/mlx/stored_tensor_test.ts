import { deepEqual, equal, throws } from "node:assert/strict";
import { join } from "node:path";
import { readPart, type StoredTensor } from "../../../engines/mlx/stored_tensor.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { TempDir } from "../../support/temp_dir.ts";

await ensureSetup();

/** A file with 4 rows of 6 numbers, i × 10 + j, after 8 bytes of something else. */
async function stored(dir: TempDir): Promise<StoredTensor> {
  const path = join(dir.path, "some.safetensors");
  const numbers = Float32Array.from({ length: 24 }, (_, i) => Math.floor(i / 6) * 10 + i % 6);
  await Deno.writeFile(
    path,
    new Uint8Array([...new Uint8Array(8), ...new Uint8Array(numbers.buffer)]),
  );
  return { path, name: "a.weight", dtype: "F32", shape: [4, 6], offset: 8 };
}

Deno.test("readPart() reads the rows and columns that are asked for", async () => {
  await using dir = await TempDir.make();
  const tensor = await stored(dir);
  const read = (part: StoredTensor, cut: Parameters<typeof readPart>[1]) => {
    using found = readPart(part, cut);
    return { shape: found.shape, values: [...found.toFloat32Array()] };
  };
  deepEqual(read(tensor, { outputs: { from: 1, to: 3 } }), {
    shape: [2, 6],
    values: [10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25],
  });
  deepEqual(read(tensor, { inputs: { from: 4, to: 6 } }).values, [4, 5, 14, 15, 24, 25, 34, 35]);
  const both = { outputs: { from: 3, to: 4 }, inputs: { from: 0, to: 2 } };
  deepEqual(read(tensor, both), { shape: [1, 2], values: [30, 31] });
  const vector = { ...tensor, shape: [24] };
  deepEqual(read(vector, { outputs: { from: 5, to: 7 } }), { shape: [2], values: [5, 10] });
  const words = { ...tensor, dtype: "U32" };
  using found = readPart(words, { outputs: { from: 0, to: 1 } });
  equal(found.dtype, "uint32");
});

Deno.test("readPart() refuses what is not in the tensor, not of its types or cut off", async () => {
  await using dir = await TempDir.make();
  const tensor = await stored(dir);
  const cut = { outputs: { from: 2, to: 5 } };
  throws(() => readPart(tensor, cut), {
    code: "corrupt_model",
    message: /"a.weight" of "some.safetensors": it is \[4,6\], at least \[5, 6\] needed/,
  });
  throws(() => readPart({ ...tensor, shape: [2, 2, 6] }, {}), { code: "corrupt_model" });
  throws(() => readPart({ ...tensor, dtype: "F64" }, {}), {
    code: "unsupported_model",
    message: /it has type F64, one of F32, F16, BF16, U8, U32 needed/,
  });
  await Deno.truncate(tensor.path, 80);
  const columns = { inputs: { from: 0, to: 2 } };
  throws(() => readPart(tensor, columns), { code: "load_failed", message: /"some.safetensors"/ });
});

import { deepEqual, equal, ok } from "node:assert/strict";
import { wholeModel } from "../../../engines/mlx/weight_cuts.ts";
import { tensorSource } from "../../../engines/mlx/weight_source.ts";
import {
  dequantize,
  ensureSetup,
  fromArray,
  liveArrays,
  memoryCounters,
  PackedMatrix,
  packedRows,
  quantize,
  type QuantizeMode,
  Scope,
  Tensor,
} from "../../../ffi/mod.ts";

await ensureSetup();

const numbers = (count: number) => Array.from({ length: count }, (_, i) => Math.sin(i * 7));

/** A quantised matrix, a dense one and a vector, as a checkpoint might have them. */
function tensors(mode: QuantizeMode): Map<string, Tensor> {
  const parts = quantize(fromArray(numbers(32 * 64), [32, 64]), { mode, groupSize: 32 });
  const named = new Map([
    ["a.weight", parts.weight],
    ["a.scales", parts.scales],
    ...(parts.biases ? [["a.biases", parts.biases] as const] : []),
    ["b.weight", fromArray(numbers(16 * 8), [16, 8])],
    ["norm.weight", fromArray(numbers(8)).astype("bfloat16")],
  ]);
  for (const tensor of named.values()) tensor.eval().keep();
  return named;
}

for (const mode of ["affine", "mxfp4", "mxfp8"] as const) {
  Deno.test(`tensorSource() packs matrices quantised as ${mode}, and frees what they were made of`, () => {
    const before = [liveArrays(), memoryCounters().activeBytes];
    {
      using _scope = new Scope();
      const given = tensors(mode);
      const bits = mode === "mxfp8" ? 8 : 4;
      const quantization = { mode, groupSize: 32, bits };
      const expected = dequantize({
        weight: given.get("a.weight") as Tensor,
        scales: given.get("a.scales") as Tensor,
        biases: given.get("a.biases"),
      }, { ...quantization, dtype: "float32" }).toFloat32Array();
      using source = tensorSource(given, {
        isPacked: true,
        quantizationOf: () => quantization,
        cuts: wholeModel(1),
      });
      deepEqual(source.entries.map(({ name }) => name), ["a.weight", "b.weight", "norm.weight"]);
      const [a, b, norm] = source.entries.map(({ load }) => load());
      ok(a instanceof PackedMatrix && b instanceof PackedMatrix && norm instanceof Tensor);
      deepEqual([a.outputs, a.inputs, b.outputs, b.inputs], [32, 64, 16, 8]);
      equal(norm.dtype, "float32");
      const ids = fromArray(Int32Array.from({ length: 32 }, (_, i) => i));
      packedRows(ids, a).toFloat32Array().forEach((value, i) => {
        ok(Math.abs(value - (expected[i] ?? NaN)) < 1e-6, `value ${i}: ${value}, ${expected[i]}`);
      });
      for (const weight of [a, b, norm]) weight[Symbol.dispose]();
    }
    deepEqual([liveArrays(), memoryCounters().activeBytes], before);
  });
}

Deno.test("tensorSource() leaves matrices as they are for MLX's own kernels", () => {
  using _scope = new Scope();
  const options = { isPacked: false, quantizationOf: () => undefined, cuts: wholeModel(1) };
  using source = tensorSource(tensors("affine"), options);
  equal(source.entries.length, 5);
  for (const { load } of source.entries) {
    using weight = load();
    ok(weight instanceof Tensor);
  }
});

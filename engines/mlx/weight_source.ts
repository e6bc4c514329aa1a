import {
  dequantize,
  type Dtype,
  packDense,
  PackedMatrix,
  packQuantized,
  type Quantized,
  Scope,
  Tensor,
} from "../../ffi/mod.ts";
import { usesCpuKernels } from "../decoder.ts";
import type { Quantization } from "./weights.ts";

/** One weight of a checkpoint, under its Hugging Face name. */
export interface WeightEntry {
  readonly name: string;
  /** Brings it into memory; once. A packed matrix stands for its scales and biases too. */
  load(): Tensor | PackedMatrix;
}

/** A checkpoint's weights, not in memory yet; disposing frees what was not loaded. */
export interface WeightSource extends Disposable {
  readonly entries: readonly WeightEntry[];
}

/** How weights are wanted. */
export interface WeightSourceOptions {
  /** Whether matrices are packed for the CPU kernels. */
  readonly isPacked: boolean;
  readonly quantizationOf: (path: string) => Quantization | undefined;
}

/** Types that are cast to f32 where there is no GPU: MLX is 8 to 40 times slower in them there. */
const HALVES: readonly Dtype[] = ["float16", "bfloat16"];

/** The weights that MLX has opened, which are read from disk when they are computed. */
export function tensorSource(
  tensors: Map<string, Tensor>,
  { isPacked, quantizationOf }: WeightSourceOptions,
): WeightSource {
  const take = (name: string): Tensor => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`"${name}" was loaded already`);
    tensors.delete(name);
    return tensor;
  };
  const pathOf = (name: string) => name.replace(/\.[^.]+$/, "");
  const isQuantized = (path: string) => tensors.has(`${path}.scales`);
  const isPart = (name: string) =>
    /\.(scales|biases)$/.test(name) && tensors.has(`${pathOf(name)}.weight`);
  const load = (name: string): Tensor | PackedMatrix => {
    using _scope = new Scope();
    const path = pathOf(name);
    const quantization = isPacked && isQuantized(path) ? quantizationOf(path) : undefined;
    if (quantization && name.endsWith(".weight")) {
      using weight = take(name);
      using scales = take(`${path}.scales`);
      using biases = tensors.has(`${path}.biases`) ? take(`${path}.biases`) : undefined;
      return packParts({ weight, scales, biases }, quantization);
    }
    using tensor = take(name);
    if (isPacked && tensor.ndim === 2 && name.endsWith(".weight")) return packDense(tensor);
    const isCast = usesCpuKernels() && HALVES.includes(tensor.dtype);
    const wanted = (isCast ? tensor.astype("float32") : tensor).contiguous();
    return wanted.eval().keep();
  };
  const names = [...tensors.keys()].filter((name) => !isPacked || !isPart(name));
  return {
    entries: names.map((name) => ({ name, load: () => load(name) })),
    [Symbol.dispose]: () => {
      for (const tensor of tensors.values()) tensor[Symbol.dispose]();
      tensors.clear();
    },
  };
}

function packParts(parts: Quantized, quantization: Quantization): PackedMatrix {
  if (quantization.mode === "affine") return packQuantized(parts, quantization);
  // Products of 4-bit floats and of scales with few digits: bf16 holds them exactly.
  return packDense(dequantize(parts, { ...quantization, dtype: "bfloat16" }));
}

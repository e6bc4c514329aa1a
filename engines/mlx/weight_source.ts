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
import { type Cut, type WeightCuts, WHOLE } from "./weight_cuts.ts";
import type { Quantization } from "./weights.ts";

/** One weight of a checkpoint, under its Hugging Face name. */
export interface WeightEntry {
  readonly name: string;
  /** Brings it into memory; once. A packed matrix stands for its scales and biases too. */
  load(): Tensor | PackedMatrix;
}

/** A checkpoint's weights, not in memory yet; disposing frees what was not loaded. */
export interface WeightSource extends Disposable {
  /** What part of a model they are. */
  readonly cuts: WeightCuts;
  readonly entries: readonly WeightEntry[];
}

/** How weights are wanted. */
export interface WeightSourceOptions {
  /** Whether matrices are packed for the CPU kernels. */
  readonly isPacked: boolean;
  readonly quantizationOf: (path: string) => Quantization | undefined;
  /** What part of a model is wanted. */
  readonly cuts: WeightCuts;
  /** Brings a part of a tensor into memory; by default it is cut out of all of it. */
  readonly readPart?: (name: string, cut: Cut) => Tensor;
}

/** Bits of one word of packed weights. */
const WORD_BITS = 32;

/** Types that are cast to f32 where there is no GPU: MLX is 8 to 40 times slower in them there. */
const HALVES: readonly Dtype[] = ["float16", "bfloat16"];

/** The weights that MLX has opened, which are read from disk when they are computed. */
export function tensorSource(
  tensors: Map<string, Tensor>,
  { isPacked, quantizationOf, cuts, readPart }: WeightSourceOptions,
): WeightSource {
  dropOthers(tensors, cuts);
  const pathOf = (name: string) => name.replace(/\.[^.]+$/, "");
  const quantized = new Set([...tensors.keys()].filter((n) => /\.scales$/.test(n)).map(pathOf));
  const isQuantized = (path: string) => quantized.has(path);
  const take = (name: string): Tensor => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`"${name}" was loaded already`);
    tensors.delete(name);
    const path = pathOf(name);
    const cut = storedCut(name, cuts, isQuantized(path) ? quantizationOf(path) : undefined);
    if (cut === WHOLE) return tensor;
    using _whole = tensor;
    return readPart ? readPart(name, cut) : partOf(tensor, cut);
  };
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
    cuts,
    entries: names.map((name) => ({ name, load: () => load(name) })),
    [Symbol.dispose]: () => {
      for (const tensor of tensors.values()) tensor[Symbol.dispose]();
      tensors.clear();
    },
  };
}

/** Frees what only other parts of the model have. */
function dropOthers(tensors: Map<string, Tensor>, cuts: WeightCuts): void {
  for (const [name, tensor] of tensors) {
    if (cuts.of(name)) continue;
    tensor[Symbol.dispose]();
    tensors.delete(name);
  }
}

/** A matrix's cut as that of a tensor stored of it, whose columns are words of inputs or groups. */
function storedCut(name: string, cuts: WeightCuts, quantization: Quantization | undefined): Cut {
  const cut = cuts.of(name) ?? WHOLE;
  if (!cut.inputs || !quantization) return cut;
  const { bits, groupSize } = quantization;
  const perColumn = name.endsWith(".weight") ? WORD_BITS / bits : groupSize;
  const { from, to } = cut.inputs;
  return { ...cut, inputs: { from: from / perColumn, to: to / perColumn } };
}

/** A copy of a part of a tensor, which may be freed then. */
function partOf(tensor: Tensor, { outputs, inputs }: Cut): Tensor {
  const ranges = [outputs, inputs];
  const start = tensor.shape.map((_, axis) => ranges[axis]?.from ?? 0);
  const stop = tensor.shape.map((length, axis) => ranges[axis]?.to ?? length);
  return tensor.slice(start, stop).contiguous().eval();
}

function packParts(parts: Quantized, quantization: Quantization): PackedMatrix {
  if (quantization.mode === "affine") return packQuantized(parts, quantization);
  // Products of 4-bit floats and of scales with few digits: bf16 holds them exactly.
  return packDense(dequantize(parts, { ...quantization, dtype: "bfloat16" }));
}

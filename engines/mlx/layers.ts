import {
  addmm,
  dequantize,
  type Quantized,
  quantizedMatmul,
  rmsNorm as fastRmsNorm,
  type Tensor,
} from "../../ffi/mod.ts";
import type { Weights } from "./weights.ts";

/** A function of a tensor that has weights. */
export type Layer = (x: Tensor) => Tensor;

/** x [..., in] to [..., out], quantised or not, with a bias where the checkpoint has one. */
export function linear(weights: Weights, path: string): Layer {
  const bias = weights.optional(`${path}.bias`);
  const product = projection(weights, path);
  if (!product.transposed) return bias ? (x) => product.apply(x).add(bias) : product.apply;
  const { transposed } = product;
  return bias ? (x) => addmm(bias, x, transposed) : product.apply;
}

/** x @ Wᵀ; `transposed` is Wᵀ where W is not quantised. */
function projection(weights: Weights, path: string): { apply: Layer; transposed?: Tensor } {
  const quantized = quantizedAt(weights, path);
  if (quantized) {
    const { parts, options } = quantized;
    return { apply: (x) => quantizedMatmul(x, parts, options) };
  }
  const transposed = weights.own(weights.take(`${path}.weight`).transpose());
  return { apply: (x) => x.matmul(transposed), transposed };
}

function quantizedAt(weights: Weights, path: string) {
  const options = weights.quantizationOf(path);
  if (!options) return undefined;
  const biases = weights.optional(`${path}.biases`);
  const parts: Quantized = {
    weight: weights.take(`${path}.weight`),
    scales: weights.take(`${path}.scales`),
    ...(biases ? { biases } : {}),
  };
  return { parts, options };
}

/** Token ids to vectors, and vectors to logits where the head is tied. */
export interface Embedding {
  /** ids [B, L] to [B, L, D]. */
  readonly embed: Layer;
  /** x [..., D] to logits [..., V]. */
  readonly asHead: Layer;
}

/** A table of vectors, one for each token. */
export function embedding(weights: Weights, path: string): Embedding {
  const quantized = quantizedAt(weights, path);
  if (!quantized) {
    const table = weights.take(`${path}.weight`); // [V, D]
    return { embed: (ids) => table.take(ids, 0), asHead: projection(weights, path).apply };
  }
  const { parts, options } = quantized;
  const embed = (ids: Tensor) => {
    const rows: Quantized = {
      weight: parts.weight.take(ids, 0),
      scales: parts.scales.take(ids, 0),
      ...(parts.biases ? { biases: parts.biases.take(ids, 0) } : {}),
    };
    return dequantize(rows, options);
  };
  return { embed, asHead: (x) => quantizedMatmul(x, parts, options) };
}

/** Root mean square norm over the last axis. Source: arXiv:1910.07467. */
export function rmsNorm(weights: Weights, path: string, eps: number): Layer {
  const weight = weights.take(`${path}.weight`);
  return (x) => fastRmsNorm(x, weight, eps);
}

import {
  dequantize,
  type Quantized,
  quantizedMatmul,
  rmsNorm as fastRmsNorm,
  type Tensor,
} from "../../ffi/mod.ts";
import type { Weights } from "./weights.ts";

/** A function of a tensor that has weights. */
export type Layer = (x: Tensor) => Tensor;

/** Rows and columns of a matrix: x [..., inputs] becomes [..., outputs]. */
export interface MatrixShape {
  readonly outputs: number;
  readonly inputs: number;
}

/** Bits of one word of packed weights. */
const WORD_BITS = 32;

/**
 * x @ Wᵀ, quantised or not, plus a bias where the checkpoint has one.
 * @throws {AppError} `corrupt_model` when the weights are missing or of another shape.
 */
export function linear(weights: Weights, path: string, shape: MatrixShape): Layer {
  const product = matrix(weights, path, shape).asHead;
  if (!weights.has(`${path}.bias`)) return product;
  const bias = weights.take(`${path}.bias`, [shape.outputs]);
  return (x) => product(x).add(bias);
}

/** A matrix W [outputs, inputs] in both of its uses. */
interface Matrix {
  /** Indices [B, L] to rows [B, L, inputs]. */
  readonly embed: Layer;
  /** x [..., inputs] to x @ Wᵀ [..., outputs]. */
  readonly asHead: Layer;
}

function matrix(weights: Weights, path: string, shape: MatrixShape): Matrix {
  const { outputs, inputs } = shape;
  const options = weights.quantizationOf(path);
  if (!options) {
    const table = weights.take(`${path}.weight`, [outputs, inputs]);
    const transposed = weights.own(table.transpose());
    return { embed: (ids) => table.take(ids, 0), asHead: (x) => x.matmul(transposed) };
  }
  const { groupSize, bits, mode } = options;
  const groups = [outputs, inputs / groupSize];
  const parts: Quantized = {
    weight: weights.take(`${path}.weight`, [outputs, inputs * bits / WORD_BITS]),
    scales: weights.take(`${path}.scales`, groups),
    ...(mode === "affine" ? { biases: weights.take(`${path}.biases`, groups) } : {}),
  };
  const rows = (ids: Tensor): Quantized => ({
    weight: parts.weight.take(ids, 0),
    scales: parts.scales.take(ids, 0),
    ...(parts.biases ? { biases: parts.biases.take(ids, 0) } : {}),
  });
  return {
    embed: (ids) => dequantize(rows(ids), options),
    asHead: (x) => quantizedMatmul(x, parts, options),
  };
}

/** Token ids to vectors, and vectors to logits where the head is tied. */
export interface Embedding {
  /** ids [B, L], each less than V, to [B, L, D]. */
  readonly embed: Layer;
  /** x [..., D] to logits [..., V]. */
  readonly asHead: Layer;
}

/**
 * A table of vectors, one for each token.
 * @throws {AppError} `corrupt_model` when the weights are missing or of another shape.
 */
export function embedding(
  weights: Weights,
  path: string,
  { vocabSize, dims }: { readonly vocabSize: number; readonly dims: number },
): Embedding {
  return matrix(weights, path, { outputs: vocabSize, inputs: dims });
}

/**
 * Root mean square norm over the last axis. Source: arXiv:1910.07467.
 * @throws {AppError} `corrupt_model` when the weight is missing or of another shape.
 */
export function rmsNorm(
  weights: Weights,
  path: string,
  { dims, eps }: { readonly dims: number; readonly eps: number },
): Layer {
  const weight = weights.take(`${path}.weight`, [dims]);
  return (x) => fastRmsNorm(x, weight, eps);
}

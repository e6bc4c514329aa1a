import {
  dequantize,
  packedLinear,
  packedRows,
  type Quantized,
  quantizedMatmul,
  rmsNorm as fastRmsNorm,
  rowsFunction,
  rowsNorm,
  type Tensor,
} from "../../ffi/mod.ts";
import type { Quantization, Weights } from "./weights.ts";

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
  const { product } = matrix(weights, path, shape);
  if (!weights.has(`${path}.bias`)) return product;
  const bias = weights.take(`${path}.bias`, [shape.outputs]);
  return (x) => product(x, bias);
}

/** A matrix W [outputs, inputs] in both of its uses. */
interface Matrix {
  /** Indices [...] to rows [..., inputs]. */
  readonly rows: Layer;
  /** x [..., inputs] to x @ Wᵀ + bias [..., outputs]. */
  readonly product: (x: Tensor, bias?: Tensor) => Tensor;
}

function matrix(weights: Weights, path: string, shape: MatrixShape): Matrix {
  if (weights.isPacked) {
    const packed = weights.takeMatrix(`${path}.weight`, shape);
    return {
      rows: (ids) => packedRows(ids, packed),
      product: (x, bias) => packedLinear(x, packed, bias),
    };
  }
  const plus = (y: Tensor, bias: Tensor | undefined) => bias ? y.add(bias) : y;
  const options = weights.quantizationOf(path);
  if (!options) {
    const weight = weights.take(`${path}.weight`, [shape.outputs, shape.inputs]);
    const transposed = weights.own(weight.transpose());
    return {
      rows: (ids) => weight.take(ids, 0),
      product: (x, bias) => plus(x.matmul(transposed), bias),
    };
  }
  const parts = quantizedParts(weights, path, { ...shape, ...options });
  const taken = (ids: Tensor): Quantized => ({
    weight: parts.weight.take(ids, 0),
    scales: parts.scales.take(ids, 0),
    ...(parts.biases ? { biases: parts.biases.take(ids, 0) } : {}),
  });
  return {
    rows: (ids) => dequantize(taken(ids), options),
    product: (x, bias) => plus(quantizedMatmul(x, parts, options), bias),
  };
}

function quantizedParts(
  weights: Weights,
  path: string,
  { outputs, inputs, groupSize, bits, mode }: MatrixShape & Quantization,
): Quantized {
  const groups = [outputs, inputs / groupSize];
  return {
    weight: weights.take(`${path}.weight`, [outputs, inputs * bits / WORD_BITS]),
    scales: weights.take(`${path}.scales`, groups),
    ...(mode === "affine" ? { biases: weights.take(`${path}.biases`, groups) } : {}),
  };
}

/** Token ids to vectors, and vectors to logits where the head is tied. */
export interface Embedding {
  /** ids [M], each less than V, to [M, D]. */
  readonly embed: Layer;
  /** x [M, D] to logits [M, V]. */
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
  const { rows, product } = matrix(weights, path, { outputs: vocabSize, inputs: dims });
  return { embed: rows, asHead: (x) => product(x) };
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
  return (x) => weights.isPacked ? rowsNorm(x, weight, { eps }) : fastRmsNorm(x, weight, eps);
}

/** silu(gate) × up. Source: arXiv:2002.05202. */
export function swiglu({ isPacked }: Weights): (gate: Tensor, up: Tensor) => Tensor {
  return (gate, up) =>
    isPacked ? rowsFunction("swiglu", gate, up) : gate.multiply(gate.sigmoid()).multiply(up);
}

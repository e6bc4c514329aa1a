import {
  dequantize,
  greaterEqual,
  less,
  logicalAnd,
  packedLinear,
  packedRows,
  type Quantized,
  quantizedMatmul,
  rmsNorm as fastRmsNorm,
  rowsFunction,
  rowsNorm,
  scalar,
  type Tensor,
  where,
} from "../../ffi/mod.ts";
import { cutShape, type IndexRange } from "./weight_cuts.ts";
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
 * x @ Wᵀ, quantised or not, plus a bias where the checkpoint has one. Of a matrix that is cut, which
 * `shape` does not tell, it is the product of the part that is there.
 * @throws {AppError} `corrupt_model` when the weights are missing or of another shape.
 */
export function linear(weights: Weights, path: string, shape: MatrixShape): Layer {
  const own = cutShape(shape, weights.cutOf(`${path}.weight`));
  const { product } = matrix(weights, path, own);
  if (!weights.has(`${path}.bias`)) return product;
  const bias = weights.take(`${path}.bias`, [own.outputs]);
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
  /** ids [M], each less than V, to [M, D]; zeros for those whose vectors other ranks have. */
  readonly embed: Layer;
  /** x [M, D] to the logits [M, V] of the tokens whose vectors are there. */
  readonly asHead: Layer;
}

/**
 * A table of vectors, one for each token, or for a range of them.
 * @throws {AppError} `corrupt_model` when the weights are missing or of another shape.
 */
export function embedding(
  weights: Weights,
  path: string,
  { vocabSize, dims }: { readonly vocabSize: number; readonly dims: number },
): Embedding {
  const cut = weights.cutOf(`${path}.weight`);
  const own = cutShape({ outputs: vocabSize, inputs: dims }, cut);
  const { rows, product } = matrix(weights, path, own);
  const embed = cut.outputs ? rowsWithin(cut.outputs, rows) : rows;
  return { embed, asHead: (x) => product(x) };
}

/** Rows of the ids in a range, the first of which is the first row there; zeros for other ids. */
function rowsWithin({ from, to }: IndexRange, rows: Layer): Layer {
  return (ids) => {
    const at = ids.subtract(scalar(from, "int32"));
    const isOwn = logicalAnd(greaterEqual(at, 0), less(at, to - from));
    // Computed first: our kernels look at ids before MLX has computed what they depend on.
    const found = rows(where(isOwn, at, 0).astype("int32").eval()); // [M, D]
    return where(isOwn.reshape(-1, 1), found, 0).astype(found.dtype);
  };
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

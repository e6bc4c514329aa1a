/** Matrix products, plain and quantised. */
import { check, native } from "./bind.ts";
import { type Dtype, DTYPE_CODE } from "./dtype.ts";
import { cString } from "./strings.ts";
import { Tensor, wrap } from "./tensor.ts";

/** How weights are quantised. */
export interface QuantizeOptions {
  /** Weights that share a scale; 64 if left out (32 for the mx modes, 16 for nvfp4). */
  readonly groupSize?: number;
  /** Bits of a weight; 4 if left out (8 for mxfp8). */
  readonly bits?: number;
  /** "affine" (scale and bias, the default), "mxfp4", "mxfp8" or "nvfp4". */
  readonly mode?: QuantizeMode;
}

/** A way to quantise weights, as MLX names it. */
export type QuantizeMode = "affine" | "mxfp4" | "mxfp8" | "nvfp4";

/** A quantised matrix `[..., N, K]`. */
export interface Quantized {
  /** Packed, uint32 `[..., N, K × bits / 32]`. */
  readonly weight: Tensor;
  /** A factor for each group `[..., N, K / groupSize]`. */
  readonly scales: Tensor;
  /** What is added for each group, in mode "affine". */
  readonly biases?: Tensor | undefined;
}

/** For each mode its name in C and its defaults. */
const MODES: Record<QuantizeMode, { text: Uint8Array<ArrayBuffer>; group: number; bits: number }> =
  {
    affine: { text: cString("affine"), group: 64, bits: 4 },
    mxfp4: { text: cString("mxfp4"), group: 32, bits: 4 },
    mxfp8: { text: cString("mxfp8"), group: 32, bits: 8 },
    nvfp4: { text: cString("nvfp4"), group: 16, bits: 4 },
  };

/** a @ b, over the last two axes. */
export function matmul(a: Tensor, b: Tensor): Tensor {
  return wrap("shim_matmul", native().shim_matmul(a.handle, b.handle));
}

/** beta × c + alpha × (a @ b). */
export function addmm(
  c: Tensor,
  a: Tensor,
  b: Tensor,
  options: { readonly alpha?: number; readonly beta?: number } = {},
): Tensor {
  const { alpha = 1, beta = 1 } = options;
  return wrap("shim_addmm", native().shim_addmm(c.handle, a.handle, b.handle, alpha, beta));
}

/** Quantises a matrix `[..., K]` along its last axis. */
export function quantize(w: Tensor, options: QuantizeOptions = {}): Quantized {
  const { text, group, bits } = MODES[options.mode ?? "affine"];
  const out = new Int32Array(3);
  const [size, width] = [options.groupSize ?? group, options.bits ?? bits];
  check("shim_quantize", native().shim_quantize(w.handle, size, width, text, out));
  const [weight = 0, scales = 0, biases = 0] = out;
  const quantized = { weight: new Tensor(weight), scales: new Tensor(scales) };
  return biases === 0 ? quantized : { ...quantized, biases: new Tensor(biases) };
}

/**
 * The matrix that quantised weights stand for, in the type of the scales unless `dtype` is given.
 */
export function dequantize(
  { weight, scales, biases }: Quantized,
  options: QuantizeOptions & { readonly dtype?: Dtype } = {},
): Tensor {
  const mode = MODES[options.mode ?? "affine"];
  const { groupSize = mode.group, bits = mode.bits, dtype } = options;
  const returned = native().shim_dequantize(
    weight.handle,
    scales.handle,
    biases?.handle ?? 0,
    groupSize,
    bits,
    mode.text,
    dtype === undefined ? -1 : DTYPE_CODE[dtype],
  );
  return wrap("shim_dequantize", returned);
}

/** x `[..., K]` @ quantised w: `[N, K]` transposed (the default), or `[K, N]` as it is. */
export function quantizedMatmul(
  x: Tensor,
  { weight, scales, biases }: Quantized,
  options: QuantizeOptions & { readonly transpose?: boolean } = {},
): Tensor {
  const mode = MODES[options.mode ?? "affine"];
  const { transpose = true, groupSize = mode.group, bits = mode.bits } = options;
  const returned = native().shim_quantized_matmul(
    x.handle,
    weight.handle,
    scales.handle,
    biases?.handle ?? 0,
    transpose,
    groupSize,
    bits,
    mode.text,
  );
  return wrap("shim_quantized_matmul", returned);
}

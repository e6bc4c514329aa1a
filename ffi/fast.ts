/** MLX's fused operations for transformers. */
import { native } from "./bind.ts";
import { Tensor, wrap } from "./tensor.ts";

/** x over its root mean square along the last axis, times the weight `[D]`. */
export function rmsNorm(x: Tensor, weight: Tensor | undefined, eps: number): Tensor {
  return wrap("shim_rms_norm", native().shim_rms_norm(x.handle, weight?.handle ?? 0, eps));
}

/** x normalised along the last axis, times the weight `[D]`, plus the bias `[D]`. */
export function layerNorm(
  x: Tensor,
  weight: Tensor | undefined,
  bias: Tensor | undefined,
  eps: number,
): Tensor {
  const [w, b] = [weight?.handle ?? 0, bias?.handle ?? 0];
  return wrap("shim_layer_norm", native().shim_layer_norm(x.handle, w, b, eps));
}

/** Settings of {@linkcode rope}. */
export interface RopeOptions {
  /** How many of the last axis' features turn. */
  readonly dims: number;
  /** Turns neighbours (2i, 2i + 1); else features half of `dims` apart. */
  readonly traditional?: boolean;
  /** Feature pair i turns by base^(-2i / dims) a position; 10000 if left out. */
  readonly base?: number;
  /** The wavelength over 2π of each pair `[dims / 2]`, in place of `base`. */
  readonly freqs?: Tensor;
  /** Multiplies positions; 1 if left out. */
  readonly scale?: number;
  /** The position of the first row; a tensor `[B]` gives each sequence its own. */
  readonly offset?: number | Tensor;
}

/** Rotary position embedding of x `[B, ..., L, D]`. Source: arXiv:2104.09864. */
export function rope(x: Tensor, options: RopeOptions): Tensor {
  const { dims, traditional = false, base = 10_000, scale = 1, offset = 0, freqs } = options;
  const [first, each] = typeof offset === "number" ? [offset, 0] : [0, offset.handle];
  const table = freqs?.handle ?? 0;
  const returned = native().shim_rope(x.handle, dims, traditional, base, scale, first, each, table);
  return wrap("shim_rope", returned);
}

/** Settings of {@linkcode scaledDotProductAttention}. */
export interface AttentionOptions {
  /** Multiplies the scores, usually D^-0.5. */
  readonly scale: number;
  /** "causal" (the queries are the last positions of the keys), or a bool or additive tensor. */
  readonly mask?: "causal" | Tensor | undefined;
  /** An extra score for each head `[H]`, which takes weight and gives nothing. */
  readonly sinks?: Tensor | undefined;
}

/**
 * softmax(scale × q @ kᵀ + mask) @ v for q `[B, H, L, D]`, k and v `[B, Hkv, S, D]`, where H is a
 * multiple of Hkv.
 */
export function scaledDotProductAttention(
  queries: Tensor,
  keys: Tensor,
  values: Tensor,
  { scale, mask, sinks }: AttentionOptions,
): Tensor {
  const returned = native().shim_sdpa(
    queries.handle,
    keys.handle,
    values.handle,
    scale,
    mask === "causal",
    mask instanceof Tensor ? mask.handle : 0,
    sinks?.handle ?? 0,
  );
  return wrap("shim_sdpa", returned);
}

import { z } from "zod";
import { fromArray, rope, RopeTable, type Tensor } from "../../ffi/mod.ts";
import type { Weights } from "../mlx/weights.ts";

const factor = z.number().gt(0);

/** How a checkpoint stretches its positions: `rope_scaling`, or `rope_parameters` of newer ones. */
export const RopeScaling = z.preprocess(
  (json) => {
    if (typeof json !== "object" || json === null) return { rope_type: "default" };
    const { rope_type, type } = json as Record<string, unknown>;
    return { ...json, rope_type: rope_type ?? type ?? "default" };
  },
  z.discriminatedUnion("rope_type", [
    z.object({ rope_type: z.literal("default") }),
    z.object({ rope_type: z.literal("linear"), factor }),
    z.object({
      rope_type: z.literal("llama3"),
      factor,
      low_freq_factor: factor.default(1),
      high_freq_factor: factor.default(4),
      original_max_position_embeddings: factor.default(8192),
    }),
  ]),
);
export type RopeScaling = z.infer<typeof RopeScaling>;

/** Turns queries and keys by their positions. */
export interface Rotary {
  /** Queries or keys [B, heads, L, headDim], the first of them at position `offset`. */
  turn(x: Tensor, offset: number): Tensor;
  /** The same angles for the CPU kernels, where the weights are packed for them. */
  readonly table: RopeTable | undefined;
}

/**
 * Rotary position embedding. Where a GGUF brings `rope_freqs.weight`, [headDim / 2] factors of the
 * wavelengths, those take the place of the config's scaling. Source: arXiv:2104.09864.
 */
export function rotary(
  weights: Weights,
  { headDim, theta, scaling }: { headDim: number; theta: number; scaling: RopeScaling },
): Rotary {
  const factors = weights.optional("rope_freqs.weight");
  const own = factors
    ? factors.multiply(fromArray(wavelengths(headDim, theta)))
    : scaling.rope_type === "llama3"
    ? fromArray(llama3Wavelengths(headDim, theta, scaling))
    : undefined;
  const freqs = own && weights.own(own.eval()); // [headDim / 2]
  const scale = scaling.rope_type === "linear" && !own ? 1 / scaling.factor : 1;
  return {
    turn: (x, offset) =>
      freqs
        ? rope(x, { dims: headDim, freqs, offset })
        : rope(x, { dims: headDim, base: theta, scale, offset }),
    table: weights.isPacked ? tableOf(weights, freqs, { headDim, theta, scale }) : undefined,
  };
}

function tableOf(
  weights: Weights,
  freqs: Tensor | undefined,
  { headDim, theta, scale }: { headDim: number; theta: number; scale: number },
): RopeTable {
  const lengths = freqs ? [...freqs.toFloat32Array()] : wavelengths(headDim, theta);
  const table = new RopeTable(lengths.map((length) => 1 / length), { positionScale: scale });
  return weights.ownNative(table);
}

/** The wavelength over 2π of each pair of features. */
function wavelengths(headDim: number, theta: number): number[] {
  return Array.from({ length: headDim / 2 }, (_, i) => theta ** (2 * i / headDim));
}

/**
 * Wavelengths with the long ones stretched, and a smooth passage to the short ones. Source:
 * transformers, modeling_rope_utils.py, _compute_llama3_parameters (5.23).
 */
export function llama3Wavelengths(
  headDim: number,
  theta: number,
  scaling: RopeScaling,
): number[] {
  if (scaling.rope_type !== "llama3") return wavelengths(headDim, theta);
  const { factor, low_freq_factor: low, high_freq_factor: high } = scaling;
  const old = scaling.original_max_position_embeddings;
  return wavelengths(headDim, theta).map((wavelength) => {
    const turns = old / (2 * Math.PI * wavelength); // Of the pair, over the old context.
    if (turns > high) return wavelength;
    if (turns < low) return wavelength * factor;
    const smooth = (turns - low) / (high - low);
    return wavelength / ((1 - smooth) / factor + smooth);
  });
}

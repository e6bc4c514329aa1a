import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, noise, range, scoped } from "./support.ts";

function rmsNorm(row: number[], weight: number[], eps: number): number[] {
  const meanSquare = row.reduce((sum, x) => sum + x * x, 0) / row.length;
  return row.map((x, i) => x / Math.sqrt(meanSquare + eps) * (weight[i] as number));
}

function layerNorm(row: number[], weight: number[], bias: number[], eps: number): number[] {
  const mean = row.reduce((sum, x) => sum + x, 0) / row.length;
  const variance = row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / row.length;
  const scaled = row.map((x) => (x - mean) / Math.sqrt(variance + eps));
  return scaled.map((x, i) => x * (weight[i] as number) + (bias[i] as number));
}

scoped("rmsNorm() and layerNorm() agree with their formulas", () => {
  const [x, w, b] = [noise(16), noise(8, 2), noise(8, 3)];
  const input = mx.fromArray(x, [2, 8]);
  const [weight, bias] = [mx.fromArray(w), mx.fromArray(b)];
  const rows = [x.slice(0, 8), x.slice(8)];
  close(mx.rmsNorm(input, weight, 1e-5), rows.flatMap((row) => rmsNorm(row, w, 1e-5)));
  const ones = Array(8).fill(1);
  close(mx.rmsNorm(input, undefined, 1e-5), rows.flatMap((row) => rmsNorm(row, ones, 1e-5)));
  close(mx.layerNorm(input, weight, bias, 1e-5), rows.flatMap((row) => layerNorm(row, w, b, 1e-5)));
});

interface Turn {
  position: number;
  dims: number;
  traditional: boolean;
  wavelength: (pair: number) => number;
}

function rope(row: number[], { position, dims, traditional, wavelength }: Turn): number[] {
  const out = [...row];
  for (let pair = 0; pair < dims / 2; pair++) {
    const [i, j] = traditional ? [2 * pair, 2 * pair + 1] : [pair, pair + dims / 2];
    const [x, y] = [row[i] as number, row[j] as number];
    const angle = position / wavelength(pair);
    out[i] = x * Math.cos(angle) - y * Math.sin(angle);
    out[j] = x * Math.sin(angle) + y * Math.cos(angle);
  }
  return out;
}

const L = 3;
const D = 8;

/** Turns each row of `[B, 1, L, D]`; `first` gives each sequence its first position. */
function ropeAll(x: number[], first: number[], turn: Omit<Turn, "position">, scale = 1): number[] {
  return range(x.length / D).flatMap((row) => {
    const position = scale * ((first[Math.floor(row / L)] as number) + row % L);
    return rope(x.slice(row * D, row * D + D), { ...turn, position });
  });
}

scoped("rope() agrees with its formula in both layouts, at any offset, scaled and partial", () => {
  const x = noise(L * D);
  const input = mx.fromArray(x, [1, 1, L, D]);
  for (const traditional of [false, true]) {
    for (const dims of [8, 4]) {
      const turn = { dims, traditional, wavelength: (i: number) => 500 ** (2 * i / dims) };
      const ours = mx.rope(input, { dims, traditional, base: 500, offset: 5, scale: 0.5 });
      close(ours, ropeAll(x, [5], turn, 0.5), 1e-4);
    }
  }
});

scoped("rope() takes wavelengths in place of a base, and an offset for each sequence", () => {
  const x = noise(2 * L * D);
  const lengths = [1, 3, 10, 40];
  const ours = mx.rope(mx.fromArray(x, [2, 1, L, D]), {
    dims: D,
    freqs: mx.fromArray(lengths),
    offset: mx.fromArray([2, 7], [2], "int32"),
  });
  const wavelength = (i: number) => lengths[i] as number;
  close(ours, ropeAll(x, [2, 7], { dims: D, traditional: false, wavelength }), 1e-4);
});

/** One head: q `[L, D]`, k and v `[S, D]`; what `hidden` says takes no part. */
function attend(
  [q, k, v]: [number[], number[], number[]],
  hidden: (l: number, s: number) => boolean,
): number[] {
  const row = (x: number[], i: number) => x.slice(i * D, i * D + D);
  const S = k.length / D;
  return range(q.length / D).flatMap((l) => {
    const dot = (s: number) =>
      row(q, l).reduce((sum, x, d) => sum + x * (row(k, s)[d] as number), 0);
    const weights = range(S).map((s) => hidden(l, s) ? 0 : Math.exp(dot(s) / Math.sqrt(D)));
    const total = weights.reduce((sum, each) => sum + each, 0);
    return range(D).map((d) =>
      range(S).reduce((sum, s) => sum + (weights[s] as number) * (row(v, s)[d] as number), 0) /
      total
    );
  });
}

scoped("attention agrees with its formula: whole, causal, masked, with shared heads", () => {
  const S = 5;
  const q = noise(2 * L * D); // Two heads, which share one head of keys.
  const [k, v] = [noise(S * D, 2), noise(S * D, 3)];
  const heads = [q.slice(0, L * D), q.slice(L * D)];
  const tensors = [
    mx.fromArray(q, [1, 2, L, D]),
    mx.fromArray(k, [1, 1, S, D]),
    mx.fromArray(v, [1, 1, S, D]),
  ] as const;
  const scale = D ** -0.5;
  const expected = (hidden: (l: number, s: number) => boolean) =>
    heads.flatMap((head) => attend([head, k, v], hidden));
  close(mx.scaledDotProductAttention(...tensors, { scale }), expected(() => false), 1e-4);
  const causal = mx.scaledDotProductAttention(...tensors, { scale, mask: "causal" });
  close(causal, expected((l, s) => s > l + S - L), 1e-4);
  const seen = range(L * S).map((i) => i % 2);
  const mask = mx.fromArray(seen, [L, S], "bool");
  const masked = mx.scaledDotProductAttention(...tensors, { scale, mask });
  close(masked, expected((l, s) => seen[l * S + s] === 0), 1e-4);
  const additive = mx.where(mask, 0, -1e9).astype("float32");
  close(
    mx.scaledDotProductAttention(...tensors, { scale, mask: additive }),
    masked.toArray() as Float32Array,
  );
});

scoped("shapes that do not fit are refused in MLX's words", () => {
  assert.throws(() => mx.rmsNorm(mx.ones([4]), mx.ones([3]), 1e-5), /shim_rms_norm: \[rms_norm\]/);
  assert.throws(() => mx.rope(mx.ones([1, 1, 3, 4]), { dims: 8 }), /dims must not exceed/);
  const q = mx.ones([1, 4, 8, 64]);
  const k = mx.ones([1, 3, 8, 64]);
  assert.throws(() => mx.scaledDotProductAttention(q, k, q, { scale: 1 }), /n_kv_heads/);
});

import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, noise, scoped } from "./support.ts";

scoped("rowsNorm() agrees with MLX, whole rows and heads", () => {
  const x = mx.fromArray(noise(5 * 48), [5, 48]);
  const [weight, bias] = [mx.fromArray(noise(48, 2)), mx.fromArray(noise(48, 3))];
  const options = { eps: 1e-5 };
  close(mx.rowsNorm(x, weight, options), mx.rmsNorm(x, weight, 1e-5).toNumbers());
  close(mx.rowsNorm(x, undefined, options), mx.rmsNorm(x, undefined, 1e-5).toNumbers());
  const centered = mx.rowsNorm(x, weight, { ...options, bias, centered: true });
  close(centered, mx.layerNorm(x, weight, bias, 1e-5).toNumbers());
  const short = mx.fromArray(noise(16, 4));
  const heads = mx.rmsNorm(x.reshape(5, 3, 16), short, 1e-5).toNumbers();
  close(mx.rowsNorm(x, short, { ...options, heads: 3 }), heads);
  assert.throws(() => mx.rowsNorm(x, weight, { ...options, heads: 5 }), /must divide/);
});

scoped("rowsFunction() agrees with MLX", () => {
  const [a, b] = [mx.fromArray(noise(70), [2, 35]), mx.fromArray(noise(70, 2), [2, 35])];
  close(mx.rowsFunction("add", a, b), a.add(b).toNumbers());
  close(mx.rowsFunction("multiply", a, b), a.multiply(b).toNumbers());
  close(mx.rowsFunction("scale", a, undefined, { scalar: 3 }), a.multiply(3).toNumbers());
  close(mx.rowsFunction("silu", a), a.multiply(a.sigmoid()).toNumbers());
  close(mx.rowsFunction("swiglu", a, b), a.multiply(a.sigmoid()).multiply(b).toNumbers());
  close(mx.rowsFunction("sigmoid", a), a.sigmoid().toNumbers());
  close(mx.rowsFunction("tanh", a), a.tanh().toNumbers());
  const capped = mx.rowsFunction("softcap", a, undefined, { scalar: 5 });
  close(capped, a.multiply(1 / 5).tanh().multiply(5).toNumbers());
  assert.throws(() => mx.rowsFunction("add", a, mx.zeros([2, 3])), /two shapes/);
});

/** A step of sequences with `tokens` rows each, at these positions. */
function step(pool: mx.KvPool | undefined, sequences: readonly mx.StepSequence[]): Disposable {
  mx.setStep(pool, mx.encodeStep(sequences));
  return { [Symbol.dispose]: () => mx.setStep() };
}

scoped("rowsRope() agrees with MLX at positions of several sequences", () => {
  const frequencies = Array.from({ length: 8 }, (_, i) => 10_000 ** (-2 * i / 16));
  using table = new mx.RopeTable(frequencies);
  const x = mx.fromArray(noise(5 * 32), [5, 32]);
  const rows = { blocks: Array(300).fill(0), selected: [] };
  using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  const block = pool.take();
  const blocks = rows.blocks.map(() => block);
  using _step = step(pool, [
    { tokens: [0, 0], position: 8_190, blocks, selected: [] },
    { tokens: [0, 0, 0], position: 5, blocks, selected: [] },
  ]);
  const turned = mx.rowsRope(x, table, { heads: 2 });
  const by = (from: number, to: number, offset: number) =>
    mx.rope(
      x.slice([from, 0], [to, 32]).reshape(1, to - from, 2, 16).transpose(0, 2, 1, 3),
      { dims: 16, offset },
    ).transpose(0, 2, 1, 3).reshape(to - from, 32);
  const expected = [...by(0, 2, 8_190).toNumbers(), ...by(2, 5, 5).toNumbers()];
  close(turned, expected, 2e-3); // An angle of 8,190 radians has 11 bits after its comma in f32.
  close(turned.slice([2, 0], [5, 32]), by(2, 5, 5).toNumbers());
});

scoped("rowsAttention() agrees with MLX over two sequences and two steps", () => {
  using pool = new mx.KvPool([{ kvHeads: 2, keyDim: 16, valueDim: 16 }]);
  const options = { layer: 0, heads: 4, kvHeads: 2, scale: 0.25 };
  const [queries, keys, values] = [
    mx.fromArray(noise(45 * 64), [45, 64]),
    mx.fromArray(noise(45 * 32, 2), [45, 32]),
    mx.fromArray(noise(45 * 32, 3), [45, 32]),
  ];
  const blocks = [[pool.take(), pool.take()], [pool.take()]] as const;
  const rowsOf = (from: number, to: number) => ({
    queries: queries.slice([from, 0], [to, 64]),
    keys: keys.slice([from, 0], [to, 32]),
    values: values.slice([from, 0], [to, 32]),
  });
  const run = (from: number, to: number, sequences: readonly mx.StepSequence[]) => {
    using _step = step(pool, sequences);
    return mx.rowsAttention(rowsOf(from, to), options).toNumbers();
  };
  const tokens = (count: number) => Array(count).fill(0);
  // The first sequence has rows 0 to 34 and 44, the second 35 to 43.
  const first = run(0, 44, [
    { tokens: tokens(35), position: 0, blocks: blocks[0], selected: [] },
    { tokens: tokens(9), position: 0, blocks: blocks[1], selected: [] },
  ]);
  const last = run(44, 45, [{ tokens: [0], position: 35, blocks: blocks[0], selected: [] }]);
  const heads = (x: mx.Tensor, count: number) =>
    x.reshape(1, x.shape[0] ?? 0, count, 16).transpose(0, 2, 1, 3);
  const oracle = (from: number, to: number) => {
    const rows = rowsOf(from, to);
    return mx.scaledDotProductAttention(
      heads(rows.queries, 4),
      heads(rows.keys, 2),
      heads(rows.values, 2),
      {
        scale: 0.25,
        mask: "causal",
      },
    ).transpose(0, 2, 1, 3).reshape(to - from, 64).toNumbers();
  };
  close(first, [...oracle(0, 35), ...oracle(35, 44)]);
  const joined = (x: mx.Tensor, width: number) =>
    mx.concatenate([x.slice([0, 0], [35, width]), x.slice([44, 0], [45, width])]);
  const all = mx.scaledDotProductAttention(
    heads(joined(queries, 64), 4),
    heads(joined(keys, 32), 2),
    heads(joined(values, 32), 2),
    { scale: 0.25, mask: "causal" },
  ).transpose(0, 2, 1, 3).reshape(36, 64).toNumbers();
  close(last, all.slice(35 * 64));
});

scoped(
  "rowsAttention() does without blocks that no row sees, and refuses to without others",
  () => {
    using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
    const options = { layer: 0, heads: 1, kvHeads: 1, scale: 0.25 };
    const x = mx.fromArray(noise(80 * 16), [80, 16]);
    const run = (from: number, to: number, blocks: readonly number[], window?: number) => {
      const tokens = Array(to - from).fill(0);
      using _step = step(pool, [{ tokens, position: from, blocks, selected: [] }]);
      const rows = x.slice([from, 0], [to, 16]);
      const attended = mx.rowsAttention(
        { queries: rows, keys: rows, values: rows },
        window ? { ...options, window } : options,
      );
      return attended.toNumbers();
    };
    const gone = mx.KV_BLOCK_GONE;
    const blocks = [pool.take(), pool.take(), pool.take()];
    const [, second = -1, third = -1] = blocks;
    run(0, 64, blocks);
    const expected = run(64, 80, blocks, 33); // The row at 64 sees the keys from 32.
    assert.deepEqual(run(64, 80, [gone, second, third], 33), expected);
    const seen = /lacks its KV block 0, which the row at position 64 sees/;
    assert.throws(() => run(64, 80, [gone, second, third], 34), seen);
    assert.throws(() => run(64, 80, [gone, second, third]), seen);
    assert.throws(() => run(64, 80, [gone, gone, third], 33), /lacks its KV block 1/);
    assert.throws(() => run(64, 80, [gone, second, gone], 33), /lacks its KV block 2/);
    assert.throws(() => run(64, 80, [gone, second, 99], 33), /not in use/);
    assert.throws(() => run(64, 80, [gone, second, -2], 33), /not in use/);
    assert.throws(() => run(64, 80, [gone, second], 33), /80 positions has 2 KV blocks/);
    const other = { ...options, layer: 1 };
    using _step = step(pool, [{ tokens: [0], position: 0, blocks, selected: [] }]);
    const row = x.slice([0, 0], [1, 16]);
    const lacking = mx.rowsAttention({ queries: row, keys: row, values: row }, other);
    assert.throws(() => lacking.eval(), /lacks layer 1/);
  },
);

scoped("Operations that need a step say so", () => {
  using table = new mx.RopeTable([1, 0.5]);
  const x = mx.fromArray(noise(8), [1, 8]);
  assert.throws(() => mx.rowsRope(x, table, { heads: 2 }), /no step is set/);
  assert.throws(() => mx.selectRows(x), /no step is set/);
  assert.throws(() => mx.rowsRope(x, table, { heads: 4 }), /narrower/);
});

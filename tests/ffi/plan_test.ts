import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { noise, scoped } from "./support.ts";

/** A model of one linear layer over an embedding, with a residual and its own head. */
function tinyModel() {
  const matrix = (rows: number, seed: number) =>
    mx.packDense(mx.fromArray(noise(rows * 16, seed), [rows, 16]));
  const [table, layer, other] = [matrix(20, 1), matrix(16, 2), matrix(16, 3)];
  const graph = (ids: mx.Tensor) => {
    const x = mx.packedRows(ids, table);
    const normed = mx.rowsNorm(x, undefined, { eps: 1e-5 });
    const gated = mx.rowsFunction(
      "swiglu",
      mx.packedLinear(normed, layer),
      mx.packedLinear(normed, other),
    );
    return mx.packedLinear(mx.selectRows(x.add(mx.packedLinear(gated, layer))), table);
  };
  const dispose = () => [table, layer, other].forEach((one) => one[Symbol.dispose]());
  return { graph, dispose };
}

const sequence = (tokens: readonly number[], selected: readonly number[], block: number) => ({
  tokens,
  position: 0,
  blocks: [block],
  selected,
});

scoped(
  "A plan gives the bits of its operations one by one, for any number of rows",
  () => {
    const { graph, dispose } = tinyModel();
    using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
    const block = pool.take();
    const recorded = mx.fromArray(Int32Array.of(0, 0));
    mx.setStep(
      undefined,
      mx.encodeStep([{ ...sequence([0, 0], [1], 0), blocks: [] }].map((one) => ({
        ...one,
        blocks: [block],
      }))),
    );
    mx.setStep(pool, mx.encodeStep([sequence([0, 0], [1], block)]));
    using plan = mx.Plan.record(recorded, graph(recorded));
    for (const tokens of [[3], [3, 19, 0], Array.from({ length: 31 }, (_, i) => i % 20)]) {
      const selected = tokens.map((_, i) => i).filter((i) => i % 2 === 0);
      const step = mx.encodeStep([sequence(tokens, selected, block)]);
      const best = new Int32Array(selected.length);
      assert.equal(plan.replay(pool, step, { best }), selected.length);
      mx.setStep(pool, step);
      const one = graph(mx.fromArray(Int32Array.from(tokens))).toFloat32Array();
      selected.forEach((_, row) => {
        const expected = one.subarray(row * 20, row * 20 + 20);
        assert.deepEqual(plan.output(row).toFloat32Array(), expected);
        assert.equal(best[row], expected.indexOf(Math.max(...expected)));
      });
    }
    mx.setStep();
    // Embedding, norm, two linears at once, SwiGLU, linear with its residual, selection, head.
    assert.equal(plan.profile().operations, 7);
    assert.equal(plan.profile().steps, 3);
    assert.throws(() => plan.output(99), /row 99 was not selected/);
    dispose();
  },
);

scoped("A plan refuses steps that name what is not there", () => {
  const { graph, dispose } = tinyModel();
  using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  const block = pool.take();
  const ids = mx.fromArray(Int32Array.of(0, 0));
  mx.setStep(pool, mx.encodeStep([sequence([0, 0], [1], block)]));
  using plan = mx.Plan.record(ids, graph(ids));
  mx.setStep();
  const replay = (one: mx.StepSequence) => () =>
    plan.replay(pool, mx.encodeStep([one]), { best: new Int32Array(8) });
  assert.throws(
    replay(sequence([20], [], block)),
    /token 20 is beyond the vocabulary of 20/,
  );
  assert.throws(replay(sequence([-1], [], block)), /token -1/);
  assert.throws(replay(sequence([1], [1], block)), /selected row/);
  assert.throws(replay(sequence([1], [], block + 1)), /not in use/);
  assert.throws(
    replay({ ...sequence([1], [], block), position: 32 }),
    /33 positions has 1 KV/,
  );
  const one = replay(sequence([1], [], block));
  assert.equal(one(), 0); // No refusal spoils it.
  const cut = () => plan.replay(pool, Int32Array.of(5, 1, 0));
  assert.throws(cut, /cut short/);
  dispose();
});

scoped(
  "A plan does without blocks that none of its layers sees, and refuses to without others",
  () => {
    const matrix = mx.packDense(mx.fromArray(noise(20 * 16, 1), [20, 16]));
    const layer = { kvHeads: 1, keyDim: 16, valueDim: 16 };
    using pool = new mx.KvPool([layer, layer]);
    const blocks = [pool.take(), pool.take(), pool.take()];
    const planOf = (windows: readonly number[]) => {
      const ids = mx.fromArray(Int32Array.of(0, 0));
      mx.setStep(pool, mx.encodeStep([{ ...sequence([0, 0], [1], 0), blocks }]));
      const attended = windows.reduce((x, window, layer) => {
        const options = { layer, heads: 1, kvHeads: 1, scale: 0.25, window };
        return mx.rowsAttention({ queries: x, keys: x, values: x }, options);
      }, mx.packedRows(ids, matrix));
      const logits = mx.packedLinear(mx.selectRows(attended), matrix);
      mx.setStep();
      return mx.Plan.record(ids, logits);
    };
    using narrow = planOf([33, 20]);
    using wide = planOf([20, 34]);
    using unlimited = planOf([20, 0]);
    const run = (plan: mx.Plan, own: readonly number[], position = 64, count = 9) => {
      const tokens = Array.from({ length: count }, (_, i) => (position + i) % 20);
      const one = { tokens, position, blocks: own, selected: [count - 1] };
      plan.replay(pool, mx.encodeStep([one]), { best: new Int32Array(1) });
      return plan.output(0).toNumbers();
    };
    const gone = [mx.KV_BLOCK_GONE, ...blocks.slice(1)];
    for (const plan of [unlimited, wide, narrow]) run(plan, blocks, 0, 64);
    assert.deepEqual(run(narrow, gone), run(narrow, blocks)); // The row at 64 sees the keys from 32.
    const seen = /lacks its KV block 0, which the row at position 64 sees/;
    for (const plan of [wide, unlimited]) assert.throws(() => run(plan, gone), seen);
    const last = [...blocks.slice(0, 2), mx.KV_BLOCK_GONE]; // The step writes there.
    assert.throws(() => run(narrow, last), /lacks its KV block 2/);
    matrix[Symbol.dispose]();
  },
);

scoped("What a plan cannot hold is named", () => {
  const { graph, dispose } = tinyModel();
  using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  const ids = mx.fromArray(Int32Array.of(0, 0));
  mx.setStep(pool, mx.encodeStep([sequence([0, 0], [1], pool.take())]));
  const graphs = [graph(ids).exp(), graph(ids).add(mx.zeros([20]))];
  mx.setStep();
  assert.throws(() => mx.Plan.record(ids, graphs[0] as mx.Tensor), /uses MLX's Exp/);
  assert.throws(() => mx.Plan.record(ids, graphs[1] as mx.Tensor), /two shapes|Broadcast/);
  const other = mx.fromArray(Int32Array.of(1, 1));
  assert.throws(() => mx.Plan.record(other, graphs[1] as mx.Tensor), /cannot record/);
  dispose();
});

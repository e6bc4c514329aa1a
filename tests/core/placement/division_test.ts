import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { apportion, divide, layersThatFit } from "../../../core/apportion.ts";
import { type Layout, shardsOf } from "../../../core/shards.ts";
import { KIB } from "../../../core/units.ts";
import { metalCard } from "../../support/topology.ts";

/** Rows of §3.3: layers, memory or weights, the division. */
const APPORTIONED: readonly [string, number, readonly number[], readonly number[]][] = [
  ["Y1", 12, [500, 500, 1_000], [3, 3, 6]],
  ["Y2", 12, [500, 500, 500], [4, 4, 4]],
  ["Y3", 12, [312, 468, 1_092], [2, 3, 7]],
  ["Y4", 12, [312, 518, 1_024], [2, 3, 7]],
  ["Y5", 20, [900, 50, 50], [18, 1, 1]],
  ["Y6", 20, [0.975, 0.0125, 0.0125], [18, 1, 1]],
  ["Y7", 12, [0.25, 0.25, 0.25, 0.25], [3, 3, 3, 3]],
  ["Y7, a half", 12, [0.25, 0.25, 0.5], [3, 3, 6]],
  ["Y8", 10, [1], [10]],
  ["Y8, thirds", 3, [0.33, 0.33, 0.34], [1, 1, 1]],
  ["Y9", 10, [0.97, 0.01, 0.01, 0.01], [7, 1, 1, 1]],
  ["Y9, thirds", 7, [1 / 3, 1 / 3, 1 / 3], [3, 2, 2]],
  ["Y9, 61", 61, [0.6, 0.4], [37, 24]],
  ["Y9, 36", 36, [128, 64], [24, 12]],
];

for (const [row, nLayers, weights, layers] of APPORTIONED) {
  Deno.test(`${row}: ${nLayers} layers over ${weights} are ${layers}`, () => {
    deepEqual(apportion(nLayers, weights), { ok: true, layers });
  });
}

Deno.test("Y10: no nodes, and fewer layers than nodes, are refused (E9b)", () => {
  const reason = (nLayers: number, count: number) => {
    const divided = apportion(nLayers, Array(count).fill(1));
    return divided.ok ? "" : divided.reason;
  };
  match(reason(12, 0), /found no nodes/);
  match(reason(0, 2), /cannot distribute 0 layers across 2 nodes, at least 1 layer for each/);
  match(reason(-1, 2), /cannot distribute -1 layers/);
  match(reason(2, 3), /cannot distribute 2 layers across 3 nodes/);
});

Deno.test("weights that are all nothing count as equal", () => {
  deepEqual(apportion(4, [0, 0]), { ok: true, layers: [2, 2] });
});

Deno.test("Y4, Y5: the division holds with the model's bytes", () => {
  const names = ["a", "b", "c"];
  const kib = (...free: number[]) => free.map((one) => one * KIB);
  const bytes = 1_000 * KIB;
  const layers = (nLayers: number, free: number[]) => divide({ nLayers, bytes, free, names });
  deepEqual(layers(12, kib(312, 518, 1_024)), { ok: true, layers: [2, 3, 7] });
  deepEqual(layers(20, kib(900, 50, 50)), { ok: true, layers: [18, 1, 1] });
});

Deno.test("Y11: a node too small for one layer is refused (E9)", () => {
  const free = [900, 50, 10].map((one) => one * KIB);
  const divided = divide({ nLayers: 20, bytes: 1_000 * KIB, free, names: ["a", "b", "c"] });
  ok(!divided.ok);
  equal(
    divided.reason,
    "node c has insufficient memory: 50.0 KiB needed for 1 layer, has 10.0 KiB free",
  );
});

Deno.test("Y12: the sum of the memory does not suffice where a layer does not fit (E9)", () => {
  const divided = divide({ nLayers: 10, bytes: 1_000, free: [995, 10], names: ["a", "b"] });
  ok(!divided.ok);
  match(divided.reason, /node b has insufficient memory: 100 B needed for 1 layer, has 10 B free/);
});

Deno.test("what rounding puts beyond a node's memory goes where there is room", () => {
  // By largest remainders 5, 2 and 3, but the second holds 1.
  const three = { nLayers: 10, bytes: 1_000, names: ["a", "b", "c"] };
  deepEqual(divide({ ...three, free: [690, 190, 390] }), { ok: true, layers: [6, 1, 3] });
  const two = { nLayers: 10, bytes: 1_000, names: ["a", "b"] };
  const none = divide({ ...two, free: [590, 480] });
  ok(!none.ok, "5 and 4 hold 9");
  deepEqual(divide({ ...two, free: [590, 480], isForced: true }), { ok: true, layers: [6, 4] });
});

Deno.test("a division is found whenever there is one, and covers all layers", () => {
  const free = fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 900 }),
      free,
      (nLayers, bytes, free) => {
        const room = free.map((one) => layersThatFit(one, { nLayers, bytes }));
        const isPossible = room.every((one) => one >= 1) && nLayers >= free.length &&
          room.reduce((sum, one) => sum + one, 0) >= nLayers;
        const divided = divide({ nLayers, bytes, free, names: free.map(String) });
        equal(divided.ok, isPossible);
        if (!divided.ok) return;
        equal(divided.layers.reduce((sum, one) => sum + one, 0), nLayers);
        ok(divided.layers.every((one, rank) => one >= 1 && one <= (room[rank] ?? 0)));
      },
    ),
  );
});

Deno.test("a model of no bytes fits with all of its layers", () => {
  equal(layersThatFit(0, { nLayers: 5, bytes: 0 }), 5);
  equal(layersThatFit(-1, { nLayers: 5, bytes: 0 }), 0, "but not where nothing is known");
});

const cfg = { usesCfg: true, nLayers: 60 };

function shards(layout: Partial<Layout> & { free: readonly number[] }, fields = {}) {
  const names = layout.free.map(String);
  const divided = shardsOf(metalCard(0, fields), {
    sharding: "Pipeline",
    bytes: 0,
    names,
    ...layout,
  });
  ok(divided.ok, divided.ok ? "" : divided.reason);
  return divided.shards.map((shard) => {
    const range = `${shard.startLayer}-${shard.endLayer}`;
    if (shard.type !== "CfgShardMetadata") return `${shard.type[0]} ${range}`;
    return `c${shard.cfgRank} p${shard.pipelineRank}/${shard.pipelineWorldSize} ${range}`;
  });
}

const even = (count: number) => Array<number>(count).fill(1_000);

Deno.test("G1: guidance over 2 nodes is one whole model each", () => {
  deepEqual(shards({ free: even(2) }, cfg), ["c0 p0/1 0-60", "c1 p0/1 0-60"]);
});

Deno.test("G2: guidance over 4 nodes runs back on the second half", () => {
  deepEqual(shards({ free: even(4) }, cfg), [
    "c0 p0/2 0-30",
    "c0 p1/2 30-60",
    "c1 p1/2 30-60",
    "c1 p0/2 0-30",
  ]);
});

Deno.test("G3: guidance over 6 nodes", () => {
  deepEqual(shards({ free: even(6) }, cfg).map((one) => one.slice(8)), [
    "0-20",
    "20-40",
    "40-60",
    "40-60",
    "20-40",
    "0-20",
  ]);
});

Deno.test("G4: an odd number of nodes is a plain pipeline", () => {
  deepEqual(shards({ free: even(3) }, cfg), ["P 0-20", "P 20-40", "P 40-60"]);
});

Deno.test("G5: a model without guidance is a plain pipeline", () => {
  deepEqual(shards({ free: even(2) }, { nLayers: 57 }), ["P 0-29", "P 29-57"]);
});

Deno.test("G6, changed by R: mirrored ranks go by the lesser memory of the two", () => {
  const free = [200, 100, 50, 400].map((one) => one * 1_000);
  deepEqual(shards({ free }, cfg).map((one) => one.slice(8)), ["0-48", "48-60", "48-60", "0-48"]);
  const same = [200, 100, 100, 400].map((one) => one * 1_000);
  deepEqual(shards({ free: same }, cfg).map((one) => one.slice(8)), [
    "0-40",
    "40-60",
    "40-60",
    "0-40",
  ]);
});

Deno.test("guidance that does not fit names the lesser node of the pair", () => {
  const layout = { sharding: "Pipeline" as const, bytes: 600, free: [600, 1], names: ["a", "b"] };
  const divided = shardsOf(metalCard(600, cfg), layout);
  ok(!divided.ok);
  match(divided.reason, /node b has insufficient memory/);
});

Deno.test("layers by hand are taken as they are", () => {
  deepEqual(shards({ free: [0, 0], layers: [15, 1] }), ["P 0-15", "P 15-16"]);
});

Deno.test("tensor shards have all layers", () => {
  deepEqual(shards({ free: [0, 0], sharding: "Tensor" }), ["T 0-16", "T 0-16"]);
  deepEqual(shards({ free: [0], sharding: "Tensor" }), ["P 0-16"], "one rank is a pipeline");
});

import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { type Candidate, type Graph, isBetter, sumOf } from "../../../core/block_search.ts";
import { blocks } from "../../../core/blocks.ts";
import { findBest, type Problem } from "../../../core/candidates.ts";
import { type Aim, compareSums, NOTHING, type Site, withSite } from "../../../core/preference.ts";
import { newBudget, spend, withShare } from "../../../core/search_budget.ts";
import { bestSubset, type Item } from "../../../core/subsets.ts";

import { allPairs } from "../../support/topology.ts";

const PREFERENCES = ["smallest", "widest", "latency", "throughput", "roomiest"] as const;

/** All ascending choices of so many of some indices. */
function* choices(count: number, from: readonly number[]): Generator<number[]> {
  if (count === 0) yield [];
  for (const [at, first] of from.entries()) {
    if (count > 0) {
      for (const rest of choices(count - 1, from.slice(at + 1))) yield [first, ...rest];
    }
  }
}

/** All orders of some indices that begin with the first. */
function* orders([first, ...rest]: readonly number[]): Generator<number[]> {
  if (first === undefined) return;
  for (const tail of permutations(rest)) yield [first, ...tail];
}

function* permutations(all: readonly number[]): Generator<number[]> {
  if (all.length === 0) yield [];
  for (const one of all) {
    for (const rest of permutations(all.filter((other) => other !== one))) yield [one, ...rest];
  }
}

function graphOf(count: number, edges: readonly (readonly [number, number])[]): Graph {
  const has = new Set(edges.map(([source, sink]) => source * count + sink));
  const all = Array.from({ length: count }, (_, at) => at);
  const reaches = (source: number, sink: number) => has.has(source * count + sink);
  return {
    count,
    sinks: all.map((node) => all.filter((other) => reaches(node, other))),
    sources: all.map((node) => all.filter((other) => reaches(other, node))),
    reaches,
    hopSeconds: () => 0.001,
  };
}

function isCycle({ reaches }: Graph, order: readonly number[]): boolean {
  return order.length === 1 ||
    order.every((node, at) => reaches(node, order[(at + 1) % order.length] as number));
}

function isClique({ reaches }: Graph, nodes: readonly number[]): boolean {
  return nodes.every((a) => nodes.every((b) => a === b || reaches(a, b)));
}

/** What a search should find, by looking at everything. */
function bruteForce(problem: Problem): Candidate | undefined {
  const { graph, sites, sizes, must, shape, aim } = problem;
  let best: Candidate | undefined;
  for (const size of sizes) {
    for (const nodes of choices(size, [...sites.keys()])) {
      if (!must.every((node) => nodes.includes(node))) continue;
      if (!nodes.every((node) => problem.isEligible(node, size))) continue;
      const tried = shape === "clique" ? [nodes] : orders(nodes);
      for (const order of tried) {
        if (!(shape === "clique" ? isClique : isCycle)(graph, order)) continue;
        const found = { order, sum: sumOf(problem, order) };
        if (found.sum.capacity >= problem.needed(size) && isBetter(aim, found, best)) best = found;
      }
    }
  }
  return best;
}

const SITE_COUNT_MAX = 6;

const site = fc.record({
  free: fc.integer({ min: 0, max: 5 }),
  capacity: fc.integer({ min: 0, max: 5 }),
  download: fc.constantFrom(0, 0, 0.5, 1),
  bandwidth: fc.constantFrom(10, 20, 50),
  isLeaf: fc.constant(false),
});

const problem = fc.record({
  sites: fc.array(site, { minLength: 1, maxLength: SITE_COUNT_MAX }),
  edges: fc.uniqueArray(fc.tuple(fc.nat(SITE_COUNT_MAX - 1), fc.nat(SITE_COUNT_MAX - 1)), {
    maxLength: 24,
    selector: String,
  }),
  isMesh: fc.boolean(),
  isMutual: fc.boolean(),
  shape: fc.constantFrom("cycle" as const, "clique" as const),
  needed: fc.integer({ min: 0, max: 12 }),
  must: fc.uniqueArray(fc.nat({ max: 2 * SITE_COUNT_MAX }), { maxLength: 2 }),
  prefer: fc.constantFrom(...PREFERENCES),
  exchanges: fc.constantFrom(0, 0, 4),
}).map(({ sites, edges, isMesh, isMutual, shape, needed, must, prefer, exchanges }): Problem => {
  const all = [...sites.keys()];
  const inside = edges.filter(([a, b]) => a !== b && a < sites.length && b < sites.length);
  const given = isMutual ? inside.flatMap(([a, b]) => [[a, b], [b, a]] as const) : inside;
  const mesh = all.flatMap((a) => all.filter((b) => b !== a).map((b) => [a, b] as const));
  return {
    graph: graphOf(sites.length, isMesh ? mesh : given),
    sites,
    // Of nodes that reach each other one way only a clique is none.
    shape: isMesh || isMutual ? shape : "cycle",
    sizes: all.map((at) => at + 1),
    must: must.filter((node) => node < sites.length),
    aim: { prefer, workload: { bytes: 1, exchanges, isRing: shape === "cycle" } },
    // Tensor-parallel ranks hold their share each, not together.
    needed: () => exchanges > 0 ? 0 : needed,
    isEligible: (node) => (sites[node] as Site).capacity > 0 || needed === 0,
    arrange: (order) =>
      [...order.slice(order.indexOf(Math.min(...order))), ...order].slice(0, order.length),
  };
});

Deno.test("the best candidate is found, whatever the graph and the preference", () => {
  fc.assert(
    fc.property(problem, (problem) => {
      const [found, expected] = [findBest(problem), bruteForce(problem)];
      equal(found.best === undefined, expected === undefined);
      if (!found.best || !expected) return;
      const order = compareSums(problem.aim, found.best.sum, expected.sum);
      equal(order, 0, `${found.best.order} for ${expected.order}`);
      ok(isCycle(problem.graph, found.best.order));
    }),
    { numRuns: 1_500 },
  );
});

const sites = (count: number): Site[] =>
  Array.from({ length: count }, (_, at) => ({
    ...{ free: 1, capacity: 1, download: 0, bandwidth: 1 + at % 7, isLeaf: false },
  }));

/** A graph in which everything is two hops from everything, and little is next to it. */
function grid(side: number): [number, number][] {
  const at = (row: number, column: number) => row * side + column;
  const cells = Array.from(
    { length: side * side },
    (_, cell) => [Math.floor(cell / side), cell % side],
  );
  return cells.flatMap(([row = 0, column = 0]) =>
    [[row + 1, column], [row, column + 1]].filter(([r = 0, c = 0]) => r < side && c < side)
      .flatMap(([r = 0, c = 0]): [number, number][] => {
        const [a, b] = [at(row, column), at(r, c)];
        return [[a, b], [b, a]];
      })
  );
}

function gridProblem(prefer: Aim["prefer"], needed: number): Problem {
  return {
    graph: graphOf(100, grid(10)),
    sites: sites(100),
    shape: "cycle",
    sizes: Array.from({ length: 100 }, (_, at) => at + 1),
    must: [],
    aim: { prefer, workload: { bytes: 100, exchanges: 0, isRing: true } },
    needed: () => needed,
    isEligible: () => true,
    arrange: (order) => order,
  };
}

Deno.test("a search that would take too long ends, and says so", () => {
  const none = findBest(gridProblem("smallest", 99), 20_000);
  deepEqual([none.best === undefined || none.best.order.length >= 99, none.isExhausted], [
    true,
    true,
  ]);
  const some = findBest(gridProblem("widest", 0), 20_000);
  ok((some.best?.order.length ?? 0) > 60, `found a cycle of ${some.best?.order.length} nodes`);
  const small = findBest(gridProblem("smallest", 4));
  deepEqual([small.best?.order.length, small.isExhausted], [4, false]);
});

Deno.test("nodes that must be are in the cycle, though smaller ones exist", () => {
  const square = [[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]] as const;
  const graph = graphOf(4, square.flatMap(([a, b]) => [[a, b], [b, a]] as const));
  const problem = { ...gridProblem("smallest", 0), graph, sites: sites(4), sizes: [1, 2, 3, 4] };
  deepEqual(findBest({ ...problem, must: [1, 3] }).best?.order.toSorted(), [0, 1, 2, 3]);
});

Deno.test("cycles that cannot hold enough are not followed", () => {
  const most = allPairs(5).filter((pair) => pair.join() !== "0,1");
  const graph = graphOf(5, most.flatMap(([a, b]) => [[a, b], [b, a]] as const));
  const held = sites(5).map((site, at) => ({ ...site, capacity: at === 0 ? 5 : 1 }));
  const problem = { ...gridProblem("smallest", 7), graph, sites: held, sizes: [1, 2, 3] };
  deepEqual(findBest(problem).best?.order.toSorted(), [0, 3, 4]);
});

Deno.test("a budget is divided over searches, and what one leaves the next may take", () => {
  const budget = newBudget(100);
  withShare(budget, 2, (share) => equal(share.left, 50));
  equal(budget.left, 100);
  withShare(budget, 100, (share) => {
    equal(share.left, 12, "an eighth at least");
    ok(spend(share, 12));
    equal(spend(share), false);
  });
  deepEqual(budget, { left: 88, isExhausted: true });
});

Deno.test("blocks are what no single node holds together", () => {
  const adjacency = (count: number, edges: readonly (readonly [number, number])[]) =>
    graphOf(count, edges.flatMap(([a, b]) => [[a, b], [b, a]] as const)).sinks;
  deepEqual(blocks(adjacency(4, [[0, 1], [1, 2], [2, 3]])), [], "a chain has none");
  const bowTie = [[0, 1], [1, 2], [2, 0], [2, 3], [3, 4], [4, 2]] as const;
  deepEqual(blocks(adjacency(5, bowTie)).sort(), [[0, 1, 2], [2, 3, 4]]);
  deepEqual(blocks([]), []);
});

const item = fc.record({
  capacity: fc.integer({ min: 0, max: 9 }),
  keys: fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3)),
});

Deno.test("of items that hold enough together the most worthy are chosen", () => {
  const worth = (items: readonly Item[], chosen: readonly number[]) =>
    [0, 1, 2].map((key) => chosen.reduce((sum, at) => sum + (items[at]?.keys[key] ?? 0), 0));
  fc.assert(
    fc.property(fc.array(item, { maxLength: 7 }), fc.nat(7), fc.nat(30), (items, count, needed) => {
      const found = bestSubset(items, { count, needed });
      const held = (chosen: readonly number[]) =>
        chosen.reduce((sum, at) => sum + (items[at]?.capacity ?? 0), 0);
      const all = [...choices(count, [...items.keys()])].filter((one) => held(one) >= needed);
      equal(found !== undefined, all.length > 0);
      if (!found) return;
      ok(found.length === count && held(found) >= needed);
      const best = all.map((one) => worth(items, one)).reduce((a, b) => isMore(b, a) ? b : a);
      deepEqual(worth(items, found), best);
    }),
  );
});

function isMore(a: readonly number[], b: readonly number[]): boolean {
  const at = a.findIndex((value, index) => value !== b[index]);
  return (a[at] ?? 0) > (b[at] ?? 0);
}

Deno.test("a need beyond the table's size is met by what holds most", () => {
  const items: Item[] = [1, 70_000, 2, 60_000].map((capacity) => ({
    capacity,
    keys: [-capacity, 0, 0],
  }));
  deepEqual(bestSubset(items, { count: 2, needed: 120_000 }), [1, 3]);
});

Deno.test("what is compared: size, leaves, model, speed, room", () => {
  const base: Site = { free: 10, capacity: 1, download: 0, bandwidth: 100, isLeaf: false };
  const sum = (...all: Partial<Site>[]) =>
    all.reduce((sum, fields) => withSite(sum, { ...base, ...fields }), NOTHING);
  const aim = (prefer: Aim["prefer"], exchanges = 0): Aim => ({
    prefer,
    workload: { bytes: 1_000, exchanges, isRing: exchanges !== 2 },
  });
  const better = (prefer: Aim["prefer"], a: Partial<Site>[], b: Partial<Site>[]) =>
    compareSums(aim(prefer), sum(...a), sum(...b)) < 0;
  ok(better("smallest", [{}], [{ download: 1 }, { download: 1 }]));
  ok(better("smallest", [{ isLeaf: true }], [{ download: 1 }]));
  ok(better("smallest", [{ download: 1, bandwidth: 1 }], [{}]));
  ok(better("smallest", [{ bandwidth: 200, free: 1 }], [{}]));
  ok(better("smallest", [{ free: 11 }], [{}]));
  ok(better("widest", [{}, {}], [{ download: 1 }]));
  ok(better("latency", [{ bandwidth: 200 }], [{ download: 1 }]));
  ok(better("latency", [{}], [{}, {}]), "of equally fast ones the smaller");
  ok(better("latency", [{ bandwidth: 150 }, {}], [{}]), "a faster node beside a slow one");
  ok(better("throughput", [{}, {}], [{}]), "stages work side by side");
  ok(better("roomiest", [{ free: 30, bandwidth: 1 }], [{}, {}]));
  equal(compareSums(aim("smallest"), sum({}), sum({})), 0);
  const apart = (exchanges: number) =>
    compareSums(aim("latency", exchanges), withSite(withSite(NOTHING, base, 1), base, 1), sum({}));
  ok(apart(4) > 0, "exchanges over slow links cost more than sharing saves");
  ok(apart(2) < 0, "straight ones less");
  ok(compareSums(aim("latency", 4), sum({}, {}), sum({})) < 0, "over no distance sharing pays");
});

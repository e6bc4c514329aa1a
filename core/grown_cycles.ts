import type { Block, Graph } from "./block_search.ts";
import { type Budget, newBudget, spend } from "./search_budget.ts";

/** Looks at edges that growing may take: it only helps a search that may give up. */
const GROWTH_STEPS_MAX = 100_000;

/** Neighbours of the first node through which a first cycle is looked for. */
const SEEDS_MAX = 8;

/**
 * Cycles of a block by their numbers of nodes, each the one before with a detour over one or two
 * more nodes. They are not the best ones: where a graph has too many cycles to look at, they are
 * what a bounded search would not come to.
 */
export function grownCycles(
  graph: Graph,
  block: Block,
  must: readonly number[],
): ReadonlyMap<number, readonly number[]> {
  const found = new Map<number, readonly number[]>();
  const budget = newBudget(GROWTH_STEPS_MAX);
  const [start] = [...must, ...block.members];
  let cycle = shortestCycle(block, start as number);
  while (cycle) {
    if (must.every((node) => cycle?.includes(node))) found.set(cycle.length, cycle);
    cycle = withDetour(cycle, { graph, block, budget });
  }
  return found;
}

/** A shortest cycle of three nodes or more through a node, by one of its first neighbours. */
function shortestCycle({ sinks }: Block, start: number): readonly number[] | undefined {
  const near = (sinks[start] as readonly number[]).slice(0, SEEDS_MAX);
  const cycles = near.flatMap((first) => {
    const path = wayBack(sinks, first, start);
    return path ? [[start, ...path]] : [];
  });
  return cycles.sort((a, b) => a.length - b.length)[0];
}

/** The nodes of a shortest path to `end`, without it, that does not take the direct way. */
function wayBack(
  sinks: Block["sinks"],
  first: number,
  end: number,
): number[] | undefined {
  const before = new Map<number, number>([[first, -1]]);
  for (const node of before.keys()) {
    for (const sink of sinks[node] as readonly number[]) {
      if (sink === end && node !== first) return pathTo(node, before);
      if (sink !== end && !before.has(sink)) before.set(sink, node);
    }
  }
  return undefined;
}

function pathTo(last: number, before: ReadonlyMap<number, number>): number[] {
  const path: number[] = [];
  for (let node = last; node !== -1; node = before.get(node) as number) path.unshift(node);
  return path;
}

/** The cycle with one more node between two of it, or else with two. */
function withDetour(
  cycle: readonly number[],
  { graph, block: { sinks }, budget }: { graph: Graph; block: Block; budget: Budget },
): readonly number[] | undefined {
  const inside = new Set(cycle);
  const outer = (node: number) =>
    (sinks[node] as readonly number[]).filter((sink) => spend(budget) && !inside.has(sink));
  for (const hops of [1, 2]) {
    for (const [at, from] of cycle.entries()) {
      const to = cycle[(at + 1) % cycle.length] as number;
      const ways = outer(from).flatMap((one) =>
        hops === 1 ? [[one]] : outer(one).map((two) => [one, two])
      );
      const way = ways.find((nodes) => graph.reaches(nodes.at(-1) as number, to));
      if (way) return [...cycle.slice(0, at + 1), ...way, ...cycle.slice(at + 1)];
    }
  }
  return undefined;
}

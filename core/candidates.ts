import { type Block, blockOf, type Candidate, type Graph } from "./block_search.ts";
import { isBetter, searchBlock, sumOf } from "./block_search.ts";
import { blocks } from "./blocks.ts";
import { grownCycles } from "./grown_cycles.ts";
import { type Aim, compareSums, keysOf, NOTHING, type Site, withSite } from "./preference.ts";
import { type Budget, newBudget, withShare } from "./search_budget.ts";
import { bestSubset, byCapacity, byWorth, mostHeld } from "./subsets.ts";

/** What is looked for: nodes that form a cycle, or that all reach each other. */
export interface Problem {
  readonly graph: Graph;
  readonly sites: readonly Site[];
  readonly shape: "cycle" | "clique";
  /** Numbers of nodes that are possible, ascending. */
  readonly sizes: readonly number[];
  /** Nodes that must be among them. */
  readonly must: readonly number[];
  readonly aim: Aim;
  /** What the capacities of so many nodes have to add up to. */
  needed(size: number): number;
  /** Whether a node can be one of so many. */
  isEligible(node: number, size: number): boolean;
  /** Nodes in the order of their ranks; undefined where they cannot be used after all. */
  arrange(order: readonly number[]): readonly number[] | undefined;
}

/** The best that was found. */
export interface Found {
  readonly best: Candidate | undefined;
  /** Whether something was left out for want of steps (`SEARCH_STEPS_MAX`). */
  readonly isExhausted: boolean;
}

/**
 * The best candidate. Sizes are tried in the order that is preferred, so that the first success
 * ends the search where only the size counts. One and two nodes, and those of which all reach each
 * other, are solved exactly; elsewhere a bounded search looks for cycles, block by block.
 */
export function findBest(problem: Problem, steps?: number): Found {
  const { aim } = problem;
  const isFirstBest = aim.prefer === "smallest" || aim.prefer === "widest";
  const budget = newBudget(steps);
  let best: Candidate | undefined;
  for (const found of bestOfEach(problem, budget)) {
    if (isBetter(aim, found, best)) best = found;
    if (isFirstBest) break;
  }
  return { best, isExhausted: budget.isExhausted };
}

/** The best candidate of each size that has one, in the order in which sizes are preferred. */
export function* bestOfEach(problem: Problem, budget: Budget): Generator<Candidate> {
  const { sizes, aim } = problem;
  const tried = aim.prefer === "widest" ? sizes.toReversed() : sizes;
  const cache: BlockCache = { members: [], parts: [] };
  for (const [at, size] of tried.entries()) {
    const found = bestOfSize(problem, { size, cache, budget, remaining: tried.length - at });
    if (found) yield found;
  }
}

/** The parts of the nodes that the last size admitted: most sizes admit the same. */
interface BlockCache {
  members: readonly number[];
  parts: readonly Part[];
}

/** A block, or all of one clique. */
interface Part {
  readonly block: Block;
  readonly isClique: boolean;
  /** Nodes of it that all reach each other, with all that must be; the most wanted first. */
  readonly clique: readonly number[];
  /** Cycles of several sizes, made when they are first asked for. */
  grown(): ReadonlyMap<number, readonly number[]>;
}

interface Turn {
  readonly size: number;
  readonly cache: BlockCache;
  readonly budget: Budget;
  readonly remaining: number;
}

function bestOfSize(problem: Problem, turn: Turn): Candidate | undefined {
  const { sites, must } = problem;
  const { size } = turn;
  const members = [...sites.keys()].filter((node) => problem.isEligible(node, size));
  const held = mostHeld(members.map((node) => sites[node] as Site), size);
  const isPossible = members.length >= size && held >= problem.needed(size) &&
    must.length <= size && must.every((node) => members.includes(node));
  if (!isPossible) return undefined;
  if (size === 1) return best(problem, members.map((node) => [node]));
  if (size === 2) return best(problem, pairs(problem, members));
  return bestOfBlocks(problem, members, turn);
}

/** The best of all these that hold enough and contain what they must. */
function best(problem: Problem, orders: Iterable<readonly number[]>): Candidate | undefined {
  const { must, aim, sites } = problem;
  let best: Candidate | undefined;
  for (const order of orders) {
    if (!must.every((node) => order.includes(node))) continue;
    // Links take time to compare, and cannot make it better than it is without them.
    const bound = order.reduce((sum, node) => withSite(sum, sites[node] as Site), NOTHING);
    if (best && compareSums(aim, bound, best.sum) > 0) continue;
    const found = accept(problem, order);
    if (found && isBetter(aim, found, best)) best = found;
  }
  return best;
}

function* pairs({ graph }: Problem, members: readonly number[]): Generator<readonly number[]> {
  const isMember = new Set(members);
  for (const source of members) {
    for (const sink of graph.sinks[source] as readonly number[]) {
      const isPair = sink > source && isMember.has(sink) && graph.reaches(sink, source);
      if (isPair) yield [source, sink];
    }
  }
}

function bestOfBlocks(
  problem: Problem,
  members: readonly number[],
  { size, cache, budget, remaining }: Turn,
): Candidate | undefined {
  if (!isSame(cache.members, members)) {
    cache.members = members;
    cache.parts = partsOf(problem, members);
  }
  // A block of as many links as nodes is but one ring, and has no cycle of another size.
  const possible = cache.parts.filter(({ block: { members, capacityMost, linkCount } }) =>
    members.length >= size && (linkCount > members.length || size === members.length) &&
    (capacityMost[size] as number) >= problem.needed(size) &&
    problem.must.every((node) => members.includes(node))
  );
  const found = withShare(
    budget,
    remaining,
    (share) =>
      possible.map((part, at) =>
        part.isClique
          ? bestOfClique(problem, part.block.members, size)
          : withShare(share, possible.length - at, (own) => bestOfPart(problem, part, size, own))
      ),
  );
  return bestCandidate(problem, found);
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, at) => value === b[at]);
}

function partsOf(problem: Problem, members: readonly number[]): Part[] {
  const { graph, sites, aim } = problem;
  const place = new Map(members.map((node, at) => [node, at]));
  const adjacency = members.map((): number[] => []);
  for (const [at, node] of members.entries()) {
    for (const sink of graph.sinks[node] as readonly number[]) {
      const other = place.get(sink);
      if (other === undefined) continue;
      // One way or both: a cycle may use either.
      if (at < other || !graph.reaches(sink, node)) {
        adjacency[at]?.push(other);
        adjacency[other]?.push(at);
      }
    }
  }
  return blocks(adjacency).map((found) => {
    const nodes = found.map((at) => members[at] as number);
    const items = nodes.map((node) => ({ keys: keysOf(aim, sites[node] as Site) }));
    const wanted = byWorth(items).map((at) => nodes[at] as number);
    const block = blockOf(graph, sites, wanted);
    const clique = cliqueOfWanted(problem, wanted);
    const made: { grown?: ReadonlyMap<number, readonly number[]> } = {};
    const grown = () => made.grown ??= grownCycles(graph, block, problem.must);
    return { block, isClique: isClique(graph, nodes), clique, grown };
  });
}

function isClique(graph: Graph, nodes: readonly number[]): boolean {
  const all = new Set(nodes);
  return nodes.every((node) => {
    const reached = (graph.sinks[node] as readonly number[]).filter((sink) => all.has(sink));
    return reached.length === nodes.length - 1;
  });
}

/** In a full mesh any nodes form a cycle: only which ones is to be chosen. */
function bestOfClique(
  problem: Problem,
  members: readonly number[],
  size: number,
): Candidate | undefined {
  const { sites, must, aim } = problem;
  const site = (node: number) => sites[node] as Site;
  const others = members.filter((node) => !must.includes(node));
  const held = must.reduce((sum, node) => sum + site(node).capacity, 0);
  const choice = { count: size - must.length, needed: Math.max(0, problem.needed(size) - held) };
  const worthy = (bandwidthMost: number) => {
    const items = others.map((node) => {
      const bandwidth = Math.min(bandwidthMost, site(node).bandwidth);
      return { capacity: site(node).capacity, keys: keysOf(aim, { ...site(node), bandwidth }) };
    });
    return bestSubset(items, choice)?.map((at) => others[at] as number) ?? [];
  };
  const most = [...must, ...worthy(Infinity)];
  if (most.length < size) return undefined;
  // Of tensor-parallel ranks all wait for the slowest: what others have beyond it is worth nothing.
  const slowest = Math.min(...most.map((node) => site(node).bandwidth));
  const wanted = aim.workload.exchanges > 0 ? [...must, ...worthy(slowest)] : most;
  const largest = byCapacity(others.map(site)).slice(0, choice.count)
    .map((at) => others[at] as number);
  const ascending = (nodes: readonly number[]) => nodes.toSorted((a, b) => a - b);
  return accept(problem, ascending(wanted)) ?? accept(problem, ascending([...must, ...largest]));
}

function bestOfPart(
  problem: Problem,
  { block, clique, grown }: Part,
  size: number,
  budget: Budget,
): Candidate | undefined {
  const { aim, shape } = problem;
  const quick = clique.length >= size ? bestOfClique(problem, clique, size) : undefined;
  const wanted = block.members.slice(0, size);
  // Nothing is better than the most wanted of all, where more of them is always better.
  const isMost = quick?.order.every((node) => wanted.includes(node)) === true;
  if (isMost && aim.workload.exchanges === 0) return quick;
  const search = { ...problem, block, size, needed: problem.needed(size) };
  const accepted = (order: readonly number[]) => accept(problem, order);
  const found = searchBlock({ ...search, accept: accepted }, budget);
  const sized = shape === "cycle" ? grown().get(size) : undefined;
  const large = sized && accept(problem, sized);
  return bestCandidate(problem, [quick, found, large]);
}

/** The best of those that are there. */
function bestCandidate(
  { aim }: Problem,
  all: readonly (Candidate | undefined)[],
): Candidate | undefined {
  return all.reduce((best, one) => one && isBetter(aim, one, best) ? one : best, undefined);
}

/** Nodes that all reach each other, the most wanted first, and those that must be. */
function cliqueOfWanted(problem: Problem, wanted: readonly number[]): number[] {
  const { graph, must } = problem;
  const clique: number[] = [];
  for (const node of [...must, ...wanted.filter((node) => !must.includes(node))]) {
    const fits = clique.every((other) => graph.reaches(node, other) && graph.reaches(other, node));
    if (fits) clique.push(node);
  }
  return must.every((node) => clique.includes(node)) ? clique : [];
}

/** The candidate as it is kept: arranged, and with enough capacity. */
function accept(problem: Problem, order: readonly number[]): Candidate | undefined {
  const arranged = problem.arrange(order);
  if (!arranged) return undefined;
  const sum = sumOf(problem, arranged);
  return sum.capacity >= problem.needed(order.length) ? { order: arranged, sum } : undefined;
}

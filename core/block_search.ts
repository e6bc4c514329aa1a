import type { Adjacency } from "./blocks.ts";
import { type Aim, compareSums, NOTHING, type Site, type Sum, withSite } from "./preference.ts";
import { type Budget, spend, withShare } from "./search_budget.ts";

/** Which nodes reach which, and how fast. */
export interface Graph {
  readonly count: number;
  /** For each node those that it reaches, and those that reach it, ascending. */
  readonly sinks: Adjacency;
  readonly sources: Adjacency;
  reaches(source: number, sink: number): boolean;
  /** Seconds from a node to one that it reaches. */
  hopSeconds(source: number, sink: number): number;
}

/** A choice of nodes, by rank. */
export interface Candidate {
  readonly order: readonly number[];
  readonly sum: Sum;
}

/** A part of a graph, ready to be searched for any size. */
export interface Block {
  /** Its nodes, the most wanted first. */
  readonly members: readonly number[];
  /** Place of each node among the members. */
  readonly place: ReadonlyMap<number, number>;
  /** Of each node the nodes that it reaches, and those that reach it, the most wanted first. */
  readonly sinks: readonly (readonly number[])[];
  readonly sources: readonly (readonly number[])[];
  readonly edgeCount: number;
  /** Pairs of nodes of which one reaches the other. */
  readonly linkCount: number;
  /** The most that so many of its nodes hold, or bring of bandwidth or of the model. */
  readonly capacityMost: readonly number[];
  readonly bandwidthMost: readonly number[];
  readonly downloadMost: readonly number[];
}

/** What is looked for in one part of a graph. */
export interface BlockSearch {
  readonly graph: Graph;
  readonly sites: readonly Site[];
  readonly block: Block;
  readonly must: readonly number[];
  readonly shape: "cycle" | "clique";
  readonly size: number;
  /** What the capacities have to add up to. */
  readonly needed: number;
  readonly aim: Aim;
  /** The candidate as it is kept; undefined where it cannot be used after all. */
  accept(order: readonly number[]): Candidate | undefined;
}

/** Prepares a part of a graph; its members are given as they are wanted. */
export function blockOf(
  graph: Graph,
  sites: readonly Site[],
  members: readonly number[],
): Block {
  const place = new Map(members.map((node, at) => [node, at]));
  const sinks: number[][] = Array.from({ length: graph.count }, () => []);
  const sources: number[][] = Array.from({ length: graph.count }, () => []);
  // In the order of members: each list comes out with the most wanted first.
  for (const node of members) {
    for (const source of graph.sources[node] as readonly number[]) {
      if (place.has(source)) sinks[source]?.push(node);
    }
    for (const sink of graph.sinks[node] as readonly number[]) {
      if (place.has(sink)) sources[sink]?.push(node);
    }
  }
  const most = (of: (site: Site) => number) =>
    runningSums(members.map((node) => of(siteOf(sites, node))));
  return {
    members,
    place,
    sinks,
    sources,
    edgeCount: sinks.reduce((sum, { length }) => sum + length, 0),
    linkCount: sinks.reduce((sum, reached, node) => {
      const counted = reached.filter((sink) => sink > node || !graph.reaches(sink, node));
      return sum + counted.length;
    }, 0),
    capacityMost: most(({ capacity }) => capacity),
    bandwidthMost: most(({ bandwidth }) => bandwidth),
    downloadMost: most(({ download }) => download),
  };
}

/** Steps that a look at so many edges counts as, where nothing else is done. */
const EDGES_PER_STEP = 4;

/** Part of its steps that a search may spend on finding out how far it is to its start. */
const HOME_SHARE = 0.25;

/**
 * The best cycle or clique of one size that a bounded search finds. Wanted nodes are tried first,
 * so that what is found early is good; what cannot become better than the best is not followed.
 */
export function searchBlock(search: BlockSearch, budget: Budget): Candidate | undefined {
  const { block: { members }, must: [pinned], size, graph } = search;
  const walk: Walk = {
    search,
    isOpen: new Uint8Array(graph.count),
    home: new Int32Array(graph.count),
    best: undefined,
  };
  const starts = pinned === undefined ? members.slice(0, members.length - size + 1) : [pinned];
  for (const [at, start] of starts.entries()) {
    if (!spend(budget)) break;
    const allowed = pinned === undefined ? members.slice(at) : members;
    withShare(budget, starts.length - at, (share) => walkFrom(walk, { start, allowed, share }));
  }
  return walk.best;
}

interface Walk {
  readonly search: BlockSearch;
  /** The nodes that may still be visited. */
  readonly isOpen: Uint8Array;
  /** Hops back to the start; −1 where there is no way. */
  readonly home: Int32Array;
  best: Candidate | undefined;
}

function siteOf(sites: readonly Site[], node: number): Site {
  return sites[node] as Site;
}

/** Sums of the first so many, the largest first. */
function runningSums(values: readonly number[]): number[] {
  const sums = [0];
  for (const value of values.toSorted((a, b) => b - a)) sums.push(sums.at(-1) as number + value);
  return sums;
}

function walkFrom(
  walk: Walk,
  { start, allowed, share }: { start: number; allowed: readonly number[]; share: Budget },
): void {
  const { search, isOpen } = walk;
  isOpen.fill(0);
  for (const node of allowed) isOpen[node] = 1;
  if (search.shape === "cycle") measureHome(walk, start, share);
  isOpen[start] = 0;
  const sum = withSite(NOTHING, siteOf(search.sites, start));
  step(walk, { path: [start], sum, share });
}

/** Breadth first from the start, against the edges; where that takes too long, all seem near. */
function measureHome({ search, home, isOpen }: Walk, start: number, share: Budget): void {
  const { sources, edgeCount } = search.block;
  const steps = edgeCount / EDGES_PER_STEP;
  if (steps > share.left * HOME_SHARE) return void home.fill(1);
  share.left -= steps;
  home.fill(-1);
  home[start] = 0;
  const queue = [start];
  for (const node of queue) {
    for (const source of sources[node] as readonly number[]) {
      if (isOpen[source] === 0 || home[source] !== -1) continue;
      home[source] = (home[node] as number) + 1;
      queue.push(source);
    }
  }
}

function step(
  walk: Walk,
  { path, sum, share }: { path: number[]; sum: Sum; share: Budget },
): void {
  const { search, isOpen } = walk;
  const { graph, sites, size, block: { sinks } } = search;
  if (path.length === size) return finish(walk, path, share);
  const from = path.at(-1) as number;
  for (const node of sinks[from] as readonly number[]) {
    if (isOpen[node] === 0) continue;
    if (!spend(share, 1 / EDGES_PER_STEP)) return;
    if (!mayFollow(walk, path, node)) continue;
    spend(share);
    const next = withSite(sum, siteOf(sites, node), graph.hopSeconds(from, node));
    if (!isPromising(walk, path, node, next)) continue;
    isOpen[node] = 0;
    path.push(node);
    step(walk, { path, sum: next, share });
    path.pop();
    isOpen[node] = 1;
  }
}

/** Whether a node can be the next of a path. */
function mayFollow({ search, home }: Walk, path: readonly number[], node: number): boolean {
  const { graph, block: { place } } = search;
  if (search.shape === "cycle") {
    const left = search.size - path.length;
    const hops = home[node] as number;
    if (left === 1) return graph.reaches(node, path[0] as number);
    return hops > 0 && hops <= left;
  }
  const last = path.at(-1) as number;
  // Each clique once: beyond its start the more wanted nodes come first.
  const isAfter = (place.get(node) as number) > (place.get(last) as number);
  if (path.length > 1 && !isAfter) return false;
  return path.every((other) => graph.reaches(node, other) && graph.reaches(other, node));
}

/** Whether what begins so can become good enough, and better than the best. */
function isPromising(walk: Walk, path: readonly number[], node: number, sum: Sum): boolean {
  const { search, best } = walk;
  const { size, needed, must, aim, block: { capacityMost, bandwidthMost, downloadMost } } = search;
  const left = size - sum.size;
  if (sum.capacity + (capacityMost[left] as number) < needed) return false;
  const missing = must.filter((one) => one !== node && !path.includes(one)).length;
  if (missing > left) return false;
  if (!best || aim.prefer === "roomiest") return true;
  const bound: Sum = {
    ...sum,
    size,
    free: Number.MAX_VALUE,
    leaves: best.sum.leaves,
    bandwidth: sum.bandwidth + (bandwidthMost[left] as number),
    download: sum.download + (downloadMost[left] as number),
  };
  return best.sum.leaves === 0 && sum.leaves > 0 || compareSums(aim, bound, best.sum) < 0;
}

function finish(walk: Walk, path: readonly number[], share: Budget): void {
  const { search } = walk;
  // To look at a whole candidate takes about as long as to follow as many edges.
  spend(share, path.length);
  const found = search.accept([...path]);
  if (found && isBetter(search.aim, found, walk.best)) walk.best = found;
}

/** Whether a candidate is better than another; of equals the one whose nodes come first. */
export function isBetter(aim: Aim, found: Candidate, best: Candidate | undefined): boolean {
  if (!best) return true;
  const order = compareSums(aim, found.sum, best.sum);
  if (order !== 0) return order < 0;
  const at = found.order.findIndex((node, rank) => node !== best.order[rank]);
  return at >= 0 && (found.order[at] as number) < (best.order[at] as number);
}

/** What the nodes of a candidate add up to, hops included. */
export function sumOf(
  { graph, sites }: Pick<BlockSearch, "graph" | "sites">,
  order: readonly number[],
): Sum {
  return order.reduce((sum, node, rank) => {
    const before = order.at(rank - 1) as number;
    const seconds = before === node ? 0 : graph.hopSeconds(before, node);
    return withSite(sum, siteOf(sites, node), seconds);
  }, NOTHING);
}

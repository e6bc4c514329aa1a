import { coordinatorIps, ringGaps, ringHop } from "./addresses.ts";
import { findBest, type Found, type Problem } from "./candidates.ts";
import type { NodeId } from "./ids.ts";
import type { ModelCard } from "./model_card.ts";
import type { PlacementRequest } from "./placement_request.ts";
import { type NodeView, pinnedNodes, type PlacementView } from "./placement_view.ts";
import type { Aim } from "./preference.ts";

/** What a placement has to respect, in the order in which it is explained (spec §3.2). */
export const CONSTRAINTS = [
  "files",
  "memory",
  "division",
  "layers",
  "backends",
  "rdma",
  "links",
] as const;

/** One of them. */
export type Constraint = typeof CONSTRAINTS[number];

/** All of them. */
export const ALL_CONSTRAINTS: ReadonlySet<Constraint> = new Set(CONSTRAINTS);

/** All-reduces that each layer of a tensor-parallel model makes: after attention and after MLP. */
const EXCHANGES_PER_LAYER = 2;

/** The best nodes for a model under some constraints. */
export function search(
  view: PlacementView,
  constraints: ReadonlySet<Constraint> = ALL_CONSTRAINTS,
  { prefer = view.request.prefer, steps }: { prefer?: Aim["prefer"]; steps?: number } = {},
): Found {
  return findBest(problemOf(view, constraints, prefer), steps);
}

/** What `search` solves. */
export function problemOf(
  view: PlacementView,
  constraints: ReadonlySet<Constraint> = ALL_CONSTRAINTS,
  prefer: Aim["prefer"] = view.request.prefer,
): Problem {
  const { card, request, nodes, needed } = view;
  const has = (constraint: Constraint) => constraints.has(constraint);
  const isTensor = request.sharding === "Tensor";
  const usesRdma = request.instanceMeta === "MlxJaccl";
  const places = new Map(nodes.map(({ nodeId }, at) => [nodeId, at]));
  const pinned = pinnedNodes(request);
  const layers = (node: number) => request.nodeLayers?.[nodeAt(view, node).nodeId];
  const counted = has("memory") && !isTensor && request.nodeLayers === undefined;
  return {
    graph: has("links") ? view.graphs.strict() : view.graphs.any(),
    sites: nodes.map((node) => ({ ...node, free: node.free ?? 0 })),
    shape: usesRdma && has("links") ? "clique" : "cycle",
    sizes: sizesOf(view, has),
    must: pinned.map((nodeId) => places.get(nodeId) as number),
    aim: {
      prefer,
      workload: {
        bytes: card.storageSize.inBytes,
        exchanges: isTensor ? EXCHANGES_PER_LAYER * card.nLayers : 0,
        isRing: !usesRdma,
      },
    },
    needed: (size) => counted ? card.nLayers * guidanceRanks(card, request, size) : 0,
    isEligible: (node, size) => {
      const { free = -1, isUsable, hasRdma, hasFiles, capacity } = nodeAt(view, node);
      if (has("files") && !hasFiles) return false;
      if (has("backends") && !isUsable) return false;
      if (has("rdma") && usesRdma && !hasRdma) return false;
      if (!has("memory")) return true;
      if (isTensor) return Math.ceil(needed / size) <= free;
      return capacity >= (layers(node) ?? 1);
    },
    arrange: (order) => arrange(view, order, has),
  };
}

function nodeAt({ nodes }: Pick<PlacementView, "nodes">, at: number): NodeView {
  return nodes[at] as NodeView;
}

/** Two ranks for each layer where guidance is computed side by side (spec §3.5). */
export function guidanceRanks(
  { usesCfg }: ModelCard,
  { sharding, nodeLayers }: Pick<PlacementRequest, "sharding" | "nodeLayers">,
  size: number,
): 1 | 2 {
  const isDivided = usesCfg === true && sharding === "Pipeline" && nodeLayers === undefined;
  return isDivided && size % 2 === 0 ? 2 : 1;
}

/** Numbers of nodes that a model can be divided over. */
function sizesOf(
  { card, request, nodes, size: only }: PlacementView,
  has: (constraint: Constraint) => boolean,
): number[] {
  const least = Math.max(request.minNodes, pinnedNodes(request).length);
  const sizes = Array.from({ length: nodes.length }, (_, at) => at + 1)
    .filter((size) => size >= least && (only === undefined || size === only));
  return sizes.filter((size) => {
    if (request.sharding === "Tensor") return !has("division") || isDivisible(card, size);
    if (has("layers") && isGemma4(card)) return size === 1;
    return size <= card.nLayers * guidanceRanks(card, request, size);
  });
}

/** Whether a tensor-parallel model divides evenly over so many ranks. */
function isDivisible(card: ModelCard, size: number): boolean {
  const { hiddenSize, numKeyValueHeads: heads, baseModel } = card;
  if (hiddenSize % size !== 0) return false;
  return baseModel.startsWith("DeepSeek V4") || heads === undefined || heads % size === 0;
}

/** Whether layers share so much that a pipeline cannot divide them. */
export function isGemma4({ baseModel }: ModelCard): boolean {
  return baseModel.startsWith("Gemma 4");
}

/** Nodes by rank: the first id first, as rings may be turned. */
function arrange(
  view: PlacementView,
  order: readonly number[],
  has: (constraint: Constraint) => boolean,
): readonly number[] | undefined {
  const { card, request } = view;
  const turned = turnedTo(order, order.indexOf(Math.min(...order)));
  const usesRdma = request.instanceMeta === "MlxJaccl";
  if (order.length === 1) return turned;
  const isMirrored = guidanceRanks(card, request, order.length) === 2 && has("memory");
  const turns = isMirrored ? mirrored(view, turned) : turnsOf(turned);
  if (!usesRdma || !has("links")) return turns[0];
  return turns.map((one) => ({ one, ids: idsOf(view, one) })).find(({ ids }) =>
    coordinatorIps(view.network, ids) !== undefined && ringGaps(view.network, ids).length === 0
  )?.one;
}

/** The same ring from each of its nodes on. */
function turnsOf(order: readonly number[]): (readonly number[])[] {
  return order.map((_, at) => turnedTo(order, at));
}

function turnedTo(order: readonly number[], at: number): number[] {
  return [...order.slice(at), ...order.slice(0, at)];
}

/** The ids of nodes by rank. */
export function idsOf(view: Pick<PlacementView, "nodes">, order: readonly number[]): NodeId[] {
  return order.map((at) => nodeAt(view, at).nodeId);
}

/** The turns of a ring in which ranks that mirror each other have room for all layers. */
function mirrored(view: PlacementView, order: readonly number[]): (readonly number[])[] {
  const { card: { nLayers } } = view;
  const half = order.length / 2;
  const room = (turn: readonly number[]) =>
    turn.slice(0, half).reduce((sum, node, rank) => {
      const other = turn[turn.length - 1 - rank] as number;
      return sum + Math.min(nodeAt(view, node).capacity, nodeAt(view, other).capacity);
    }, 0);
  const turns = turnsOf(order);
  // In a mesh any order is a ring: the roomiest pairs mirror each other.
  if (isMesh(view, order)) turns.push(pairedByRoom(view, order));
  return turns.filter((turn) => room(turn) >= nLayers);
}

function isMesh({ network, nodes }: PlacementView, order: readonly number[]): boolean {
  const ids = order.map((at) => (nodes[at] as NodeView).nodeId);
  return ids.every((a) => ids.every((b) => a === b || ringHop(network, a, b) !== undefined));
}

function pairedByRoom(view: PlacementView, order: readonly number[]): number[] {
  const sorted = order.toSorted((a, b) => nodeAt(view, b).capacity - nodeAt(view, a).capacity);
  const front = sorted.filter((_, at) => at % 2 === 0);
  const back = sorted.filter((_, at) => at % 2 === 1);
  return [...front, ...back.toReversed()];
}

import { ringGaps } from "./addresses.ts";
import { apportion } from "./apportion.ts";
import type { Candidate } from "./block_search.ts";
import type { Found } from "./candidates.ts";
import type { NodeId } from "./ids.ts";
import { graphsOf } from "./link_graph.ts";
import type { ModelCard } from "./model_card.ts";
import { listed } from "./listed.ts";
import { noFiles } from "./placement_files.ts";
import { remedy } from "./placement_remedy.ts";
import type { PlacementRequest } from "./placement_request.ts";
import {
  ALL_CONSTRAINTS,
  type Constraint,
  CONSTRAINTS,
  idsOf,
  isGemma4,
  search,
} from "./placement_search.ts";
import {
  nodeNames,
  type NodeView,
  pinnedExactly,
  pinnedNodes,
  type PlacementView,
} from "./placement_view.ts";
import { rdmaLink } from "./rdma_links.ts";
import { shardsOf } from "./shards.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";
import { addConnection } from "./topology.ts";
import { formatBytes } from "./units.ts";

/** Steps of the searches that find out why (`SEARCH_STEPS_MAX`). */
const EXPLAIN_STEPS = 10_000;

/** Why nothing could be placed, and what to do. */
export interface Reason {
  readonly reason: string;
  readonly hint: string;
  /** The best choice of nodes that does not do; empty where there is none. */
  readonly nodeIds: readonly NodeId[];
}

/** The model whose pipeline is known to be broken (spec §3.2). */
const NO_PIPELINE = "mlx-community/DeepSeek-V3.1-8bit";

/** What no choice of nodes could mend: request and model contradict each other, or themselves. */
export function contradiction(
  card: ModelCard,
  request: PlacementRequest,
  usable: PlacementView["usable"],
): Pick<Reason, "reason" | "hint"> | undefined {
  const { sharding, instanceMeta, minNodes, config, nodeLayers } = request;
  const context = config?.contextTokens ?? 0;
  if (card.contextLength > 0 && context > card.contextLength) {
    const reason = `with a context of ${context} tokens: ${card.contextLength} at most possible`;
    return { reason, hint: `exo instance create ${card.modelId} --context ${card.contextLength}` };
  }
  if (sharding === "Tensor" && !card.supportsTensor) {
    const reason = "with Tensor sharding: the model does not support it, Pipeline needed";
    return { reason, hint: "leave sharding (--sharding) out" };
  }
  if (sharding === "Pipeline" && card.modelId === NO_PIPELINE) {
    const reason = "with Pipeline sharding: DeepSeek V3.1 (8-bit) does not support it";
    return { reason, hint: "use Tensor sharding: --sharding tensor" };
  }
  if (usable.length === 0) {
    const found = `it runs on ${card.backends.join(", ")}`;
    const needed = instanceMeta === "MlxJaccl" ? "MlxMetal" : "MlxMetal, MlxCuda or MlxCpu";
    const reason = `with ${instanceMeta}: ${found}, ${needed} needed`;
    const hint = instanceMeta === "MlxJaccl"
      ? "leave instance_meta (--transport) out"
      : "choose a model that MLX runs: exo models list";
    return { reason, hint };
  }
  if (nodeLayers) return contradictionOfLayers(card, request, nodeLayers);
  if (sharding === "Pipeline" && !card.usesCfg) {
    const divided = apportion(card.nLayers, Array(minNodes).fill(1));
    if (!divided.ok) {
      const hint = `ask for ${card.nLayers} nodes at most: --min-nodes ${card.nLayers}`;
      return { reason: `on ${minNodes} nodes: ${divided.reason}`, hint };
    }
  }
  return contradictionOfPins(request);
}

function contradictionOfLayers(
  card: ModelCard,
  request: PlacementRequest,
  nodeLayers: NonNullable<PlacementRequest["nodeLayers"]>,
): Pick<Reason, "reason" | "hint"> | undefined {
  if (request.sharding === "Tensor" || card.usesCfg) {
    const found = request.sharding === "Tensor"
      ? "Tensor sharding"
      : "an image model with guidance";
    const reason = `with layers by hand: found ${found}, a plain Pipeline needed`;
    return { reason, hint: "leave node_layers (--layers) out" };
  }
  const sum = Object.values(nodeLayers).reduce((sum, layers) => sum + layers, 0);
  if (sum !== card.nLayers) {
    const reason = `with layers by hand: found ${sum} layers, ${card.nLayers} needed`;
    return { reason, hint: `let the numbers of node_layers (--layers) add up to ${card.nLayers}` };
  }
  return contradictionOfPins(request);
}

function contradictionOfPins(
  request: PlacementRequest,
): Pick<Reason, "reason" | "hint"> | undefined {
  const { minNodes, exact, nodeIds = [], excludedNodeIds = [] } = request;
  const only = pinnedExactly(request);
  if (exact && nodeIds.length === 0) {
    const reason = "on exactly the given nodes: none given, one needed";
    return { reason, hint: "name them in node_ids (--node), or leave exact (--exact) out" };
  }
  const both = pinnedNodes(request).find((id) => excludedNodeIds.includes(id));
  if (both !== undefined) {
    const reason = `on node ${both}: it is excluded as well, one of both needed`;
    return { reason, hint: `leave it out of node_ids (--node) or excluded_node_ids (--exclude)` };
  }
  if (!only) return undefined;
  const beyond = pinnedNodes(request).find((id) => !only.includes(id));
  if (beyond !== undefined) {
    const reason = `on node ${beyond}: it has no layers among those given by hand`;
    return { reason, hint: "give it some in node_layers (--layers), or leave it out" };
  }
  const count = new Set(only).size;
  if (minNodes > count) {
    const reason = `on ${minNodes} nodes: ${count} given, and no others allowed`;
    return { reason, hint: `name more nodes, or ask for fewer: --min-nodes ${count}` };
  }
  return undefined;
}

/** Why a model has no place: the first constraint that no choice of nodes satisfies. */
export function explain(state: State, telemetry: Telemetry, view: PlacementView): Reason {
  const held = new Set<Constraint>();
  const anywhere = search(view, held, { prefer: "roomiest", steps: EXPLAIN_STEPS });
  if (!anywhere.best) return told(unconnected(state, view), anywhere);
  let last: Candidate = anywhere.best;
  for (const constraint of relevant(view)) {
    held.add(constraint);
    const found = search(view, held, { steps: EXPLAIN_STEPS });
    const one = { state, telemetry, view, last, held };
    if (!found.best) return told(REASONS[constraint](one), found);
    last = found.best;
  }
  const found = search(view, ALL_CONSTRAINTS, { steps: EXPLAIN_STEPS });
  return told(noLinks({ state, telemetry, view, last, held }), found);
}

/** The constraints that can be what fails, but for the links: those are what is left. */
function relevant({ card, request, nodes }: PlacementView): Exclude<Constraint, "links">[] {
  const isRelevant: Readonly<Record<Exclude<Constraint, "links">, boolean>> = {
    files: nodes.some(({ hasFiles }) => !hasFiles),
    memory: true,
    division: request.sharding === "Tensor",
    layers: request.sharding === "Pipeline" && isGemma4(card),
    backends: nodes.some(({ isUsable }) => !isUsable),
    rdma: request.instanceMeta === "MlxJaccl",
  };
  const names = CONSTRAINTS.filter((one) => one !== "links");
  return names.filter((one) => isRelevant[one]);
}

function told(reason: Reason, { isExhausted }: Found): Reason {
  return isExhausted ? exhausted(reason) : reason;
}

function exhausted({ reason, hint, nodeIds }: Reason): Reason {
  return {
    reason: `${reason}; not all choices of nodes were looked at, there are too many`,
    hint: `${hint}; or name nodes to look at: --node`,
    nodeIds,
  };
}

/** What is known when a constraint turns out to be the one that fails. */
export interface Case {
  readonly state: State;
  readonly telemetry: Telemetry;
  readonly view: PlacementView;
  /** The best choice of nodes without the constraint. */
  readonly last: Candidate;
  readonly held: ReadonlySet<Constraint>;
}

const REASONS: Readonly<Record<Exclude<Constraint, "links">, (one: Case) => Reason>> = {
  files: noFiles,
  memory: tooLittleMemory,
  division: indivisible,
  layers: noPipelineOfLayers,
  backends: noBackends,
  rdma: noRdma,
};

function unconnected(state: State, view: PlacementView): Reason {
  const { nodes, request } = view;
  const least = view.size ?? Math.max(request.minNodes, pinnedNodes(request).length);
  const nodeIds = nodes.map(({ nodeId }) => nodeId);
  if (state.nodes.size === 0) {
    return { reason: "the cluster has no nodes", hint: "start a node with exo serve", nodeIds };
  }
  if (nodes.length === 0) {
    const hint = "leave nodes out of excluded_node_ids (--exclude)";
    return { reason: "all nodes are excluded", hint, nodeIds };
  }
  if (nodes.length < least) {
    const reason = `${least} nodes needed, ${nodes.length} found`;
    return { reason, hint: `start more nodes, or use --min-nodes ${nodes.length}`, nodeIds };
  }
  const which = pinnedNodes(request).length > 0 ? " with the given ones" : "";
  const reason = `no ${least} nodes${which} reach each other around a ring`;
  const oneWay = asymmetries(view);
  if (oneWay.length > 0) return { ...openWay(reason, oneWay), nodeIds };
  return { reason, hint: "exo status shows the links between nodes", nodeIds };
}

function openWay(reason: string, oneWay: readonly string[]): Pick<Reason, "reason" | "hint"> {
  return {
    reason: `${reason}: ${listed(oneWay)}`,
    hint: "let them reach each other both ways: a firewall may be in the way",
  };
}

/** Pairs of which one reaches the other but not the other way around. */
function asymmetries({ nodes, network: { connections } }: PlacementView): string[] {
  const reaches = (a: NodeView, b: NodeView) => connections.get(a.nodeId)?.has(b.nodeId) ?? false;
  return nodes.flatMap((a) =>
    nodes.filter((b) => a !== b && reaches(a, b) && !reaches(b, a))
      .map((b) => `${a.name} reaches ${b.name}, ${b.name} does not reach ${a.name}`)
  );
}

/** The same nodes, as if each edge led both ways. */
function bothWays(view: PlacementView): PlacementView {
  let connections = view.network.connections;
  for (const [source, sinks] of view.network.connections) {
    for (const [sink, edges] of sinks) {
      for (const edge of edges.slice(0, 1)) {
        connections = addConnection(connections, { source: sink, sink: source, edge });
      }
    }
  }
  const network = { ...view.network, connections };
  const nodeIds = view.nodes.map(({ nodeId }) => nodeId);
  return { ...view, network, graphs: graphsOf(network, nodeIds, view.request.instanceMeta) };
}

function tooLittleMemory({ state, telemetry, view, last: { order }, held }: Case): Reason {
  const { needed, nodes, request } = view;
  const unknown = nodes.filter(({ free }) => free === undefined)
    .map(({ name }) => `node ${name} has not reported its memory`);
  const nodeIds = idsOf(view, order);
  const isWaiting = ({ nodeId, free }: NodeView) =>
    free === undefined && pinnedNodes(request).includes(nodeId);
  if (unknown.length === nodes.length || nodes.some(isWaiting)) {
    const hint = "ask again in a second: a node reports its memory once it has started";
    return { reason: listed(unknown), hint, nodeIds };
  }
  const oneWay = asymmetries(view);
  if (oneWay.length > 0 && search(bothWays(view), held, { steps: EXPLAIN_STEPS }).best) {
    const reason = `${
      formatBytes(needed)
    } needed, which only nodes have that do not reach each other`;
    return { ...openWay(reason, oneWay), nodeIds };
  }
  const chosen = order.map((at) => nodes[at] as NodeView);
  const mostFree = chosen.reduce((sum, { free = 0 }) => sum + free, 0);
  const hint = remedy(state, telemetry, { view, mostFree });
  const short = order.length === 1
    ? nodes.filter(({ nodeId, hasFiles }) =>
      hasFiles && (request.nodeIds?.includes(nodeId) ?? true)
    )
      .flatMap((node) => shortage(node, needed) ?? [])
    : [lack(view, chosen, mostFree)];
  const reason = listed([...short, ...unknown]);
  return { reason, hint, nodeIds };
}

/** What a node lacks of a whole model; undefined where nothing, or nobody knows. */
export function shortage({ name, free }: NodeView, needed: number): string | undefined {
  if (free === undefined || free >= needed) return undefined;
  return `node ${name} has ${formatBytes(free)} free, ${formatBytes(needed)} needed`;
}

/** What several nodes together lack. */
function lack(
  { card, needed, request }: PlacementView,
  nodes: readonly NodeView[],
  mostFree: number,
): string {
  const names = nodes.map(({ name }) => name);
  const free = nodes.map(({ free = 0 }) => free);
  const { nodeLayers } = request;
  const layers = nodeLayers && nodes.map(({ nodeId }) => nodeLayers[nodeId] as number);
  if (mostFree >= needed && request.sharding === "Pipeline" && !layers) {
    const divided = shardsOf(card, { sharding: "Pipeline", bytes: needed, free, names });
    if (!divided.ok) return divided.reason;
  }
  const short = nodes.flatMap((node, rank) => {
    const share = layers
      ? Math.floor(needed * (layers[rank] as number) / card.nLayers)
      : Math.ceil(needed / nodes.length);
    return shortage(node, share) ?? [];
  });
  if (mostFree >= needed && short.length > 0) return listed(short);
  return `${formatBytes(needed)} needed, the best choice of nodes (${listed(names, ", ")}) has ${
    formatBytes(mostFree)
  } free`;
}

function indivisible({ view, last }: Case): Reason {
  const { card: { hiddenSize, numKeyValueHeads: heads } } = view;
  const ofHeads = heads === undefined ? "" : `, num_key_value_heads=${heads}`;
  const reason = `no tensor sharding for hidden_size=${hiddenSize}${ofHeads} over so many nodes`;
  const hint = "use Pipeline sharding (leave --sharding out), or another --min-nodes";
  return { reason, hint, nodeIds: idsOf(view, last.order) };
}

function noPipelineOfLayers({ view, last }: Case): Reason {
  const reason = "Gemma 4 supports no pipeline, and no single node can take it whole";
  return {
    reason,
    hint: "use Tensor sharding: --sharding tensor",
    nodeIds: idsOf(view, last.order),
  };
}

function noBackends({ view, last }: Case): Reason {
  const { nodes, usable } = view;
  const unusable = nodes.flatMap((node) => unusableBackends(node, usable) ?? []);
  const hint = `use nodes with ${usable.join(" or ")}: exo status shows them`;
  return { reason: listed(unusable), hint, nodeIds: idsOf(view, last.order) };
}

/** Why a node cannot run a model at all; undefined when it can. */
export function unusableBackends(
  { name, backends, isUsable }: Pick<NodeView, "name" | "backends" | "isUsable">,
  usable: PlacementView["usable"],
): string | undefined {
  if (isUsable) return undefined;
  const has = backends.join(", ") || "none";
  return `node ${name} has backends ${has}, one of ${usable.join(", ")} needed`;
}

function noRdma({ view, last }: Case): Reason {
  const off = view.nodes.filter(({ hasRdma }) => !hasRdma)
    .map(({ name }) => `node ${name} has RDMA switched off, on needed`);
  const hint = "switch it on (rdma_ctl enable, in recovery mode), or use rings: --transport ring";
  return { reason: `MlxJaccl: ${listed(off)}`, hint, nodeIds: idsOf(view, last.order) };
}

function noLinks({ view, last }: Case): Reason {
  const { network, nodes, request } = view;
  const nodeIds = idsOf(view, last.order);
  const names = new Map(nodes.map(({ nodeId, name }) => [nodeId, name]));
  const name = (id: NodeId) => names.get(id) as string;
  const gaps = ringGaps(network, nodeIds).map(([id, next]) => `${name(id)} to ${name(next)}`);
  const neighbours = `needs an IP address of each neighbour, none known from ${listed(gaps)}`;
  if (request.instanceMeta === "MlxRing") {
    const hint = "exo status shows the links between nodes";
    return { reason: `a ring ${neighbours}`, hint, nodeIds };
  }
  const missing = nodeIds.flatMap((a, rank) =>
    nodeIds.slice(rank + 1).filter((b) => !rdmaLink(network, a, b))
      .map((b) => `${name(a)} and ${name(b)}`)
  );
  const hint = "connect them, or use rings: --transport ring";
  if (missing.length > 0) {
    const reason = `MlxJaccl needs an RDMA cable between all nodes, none between ${
      listed(missing)
    }`;
    return { reason, hint, nodeIds };
  }
  const coordinator = "needs an IP address at which all nodes reach one of them, none known";
  const reason = `MlxJaccl ${gaps.length > 0 ? neighbours : coordinator}`;
  return { reason, hint, nodeIds };
}

/** Why a pinned node cannot be used; undefined when all are there. */
export function unknownPin(
  state: State,
  request: PlacementRequest,
): Pick<Reason, "reason" | "hint"> | undefined {
  const unknown = pinnedNodes(request).find((id) => !state.nodes.has(id));
  if (unknown === undefined) return undefined;
  const names = [...nodeNames(state).values()];
  const hint = `known nodes: ${listed(names, ", ") || "none"}`;
  return { reason: `on node ${unknown}: it is not known, a known one needed`, hint };
}

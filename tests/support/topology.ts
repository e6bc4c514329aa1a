import { ok } from "node:assert/strict";
import type { z } from "zod";
import type { ModelId } from "../../core/ids.ts";
import type { ModelCard } from "../../core/model_card.ts";
import { place, type Placed, type Placement, type Refusal } from "../../core/placement.ts";
import type { PlacementRequest } from "../../core/placement_request.ts";
import type { State } from "../../core/state.ts";
import type { Telemetry } from "../../core/telemetry.ts";
import { stateOfTopologyFile, type TopologyFile } from "../../core/topology_file.ts";
import { cardOf, instanceId, placementOf } from "./fixtures.ts";

type FileNode = z.input<typeof TopologyFile>["nodes"][number];
type FileLink = NonNullable<z.input<typeof TopologyFile>["links"]>[number];

/** A cluster as placement takes it. */
export interface Cluster {
  readonly state: State;
  readonly telemetry: Telemetry;
}

/** A node with so much free memory. */
export function node(
  id: string,
  memoryAvailableBytes: number,
  fields: Partial<FileNode> = {},
): FileNode {
  return { id, memoryAvailableBytes, backends: ["MlxMetal"], ...fields } as FileNode;
}

/** A way from a node to an address of another. */
export function reach(
  source: string,
  sink: string,
  address: string,
  fields: Partial<FileLink> = {},
): FileLink {
  return { source, sink, address, kind: "socket", ...fields } as FileLink;
}

/** A cable for RDMA between two nodes. */
export function cable(
  source: string,
  sink: string,
  sourceIface: string,
  sinkIface = sourceIface,
): FileLink {
  return { source, sink, kind: "rdma", sourceIface, sinkIface } as FileLink;
}

/** The address of the node at an index. */
export function ipOf(at: number): string {
  return `10.0.${Math.floor(at / 250)}.${1 + at % 250}`;
}

/** Links both ways between nodes at these indices, each node with one address. */
export function bothWays(
  ids: readonly string[],
  pairs: Iterable<readonly [number, number]>,
): FileLink[] {
  return [...pairs].flatMap(([a, b]) => [
    reach(ids[a] as string, ids[b] as string, ipOf(b)),
    reach(ids[b] as string, ids[a] as string, ipOf(a)),
  ]);
}

/** All pairs of so many indices. */
export function allPairs(count: number): [number, number][] {
  return Array.from(
    { length: count },
    (_, a) => Array.from({ length: count - a - 1 }, (_, b): [number, number] => [a, a + 1 + b]),
  ).flat();
}

/** Each index with the next. */
export function chainPairs(count: number): [number, number][] {
  return Array.from({ length: Math.max(0, count - 1) }, (_, at): [number, number] => [at, at + 1]);
}

/** The cluster of these nodes and links. */
export function clusterOf(nodes: readonly FileNode[], links: readonly FileLink[] = []): Cluster {
  const read = stateOfTopologyFile({ nodes, links });
  ok(read.ok, JSON.stringify(read));
  return read;
}

/** Nodes that all reach each other. */
export function meshOf(nodes: readonly FileNode[]): Cluster {
  return clusterOf(nodes, bothWays(nodes.map(({ id }) => id), allPairs(nodes.length)));
}

/** A card for nodes with Metal: no KV, so that its bytes are those of its weights. */
export function metalCard(
  bytes: number,
  { modelId, ...fields }: Partial<Omit<ModelCard, "modelId">> & { modelId?: string } = {},
): ModelCard {
  const named = modelId === undefined ? {} : { modelId: modelId as ModelId };
  return cardOf({ backends: ["MlxMetal"], storageSize: { inBytes: bytes }, ...fields, ...named });
}

/** Places a card on a cluster. */
export function placeOn(
  { state, telemetry }: Cluster,
  card: ModelCard,
  request: Partial<PlacementRequest> = {},
): Placement {
  const asked = placementOf({ modelId: card.modelId, ...request });
  return place(state, telemetry, { instanceId: instanceId("i"), card, request: asked });
}

/** The placement of a card that has one. */
export function placedOn(...args: Parameters<typeof placeOn>): Placed {
  const placed = placeOn(...args);
  ok(placed.ok, placed.ok ? "" : placed.reason);
  return placed;
}

/** Why a card has no place. */
export function refusedOn(...args: Parameters<typeof placeOn>): Refusal {
  const placed = placeOn(...args);
  ok(!placed.ok, placed.ok ? `placed on ${placed.nodeIds}` : "");
  return placed;
}

/** Layers of each rank. */
export function layersOf({ instance }: Placed): number[] {
  return Object.values(instance.shardAssignments.runnerToShard)
    .sort((a, b) => a.deviceRank - b.deviceRank)
    .map(({ startLayer, endLayer }) => endLayer - startLayer);
}

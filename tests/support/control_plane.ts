import type { z } from "zod";
import type { Event } from "../../core/events.ts";
import { InstanceLinkId, MetaInstanceId, type NodeId, type RunnerId } from "../../core/ids.ts";
import type { Instance, Shard } from "../../core/instance.ts";
import { MetaInstance, MetaInstanceSpec } from "../../core/meta_instance.ts";
import type { ModelCard } from "../../core/model_card.ts";
import type { GatheredInfo } from "../../core/node_info.ts";
import { cardOf, instanceOf, MODEL } from "./fixtures.ts";

export const linkId = (id: string) => InstanceLinkId.parse(id);
export const metaId = (id: string) => MetaInstanceId.parse(id);

/** `source` reaches `sink` at this address. */
export function socket(
  source: NodeId,
  sink: NodeId,
  ip = "10.0.0.1",
): Extract<Event, { type: "TopologyEdgeCreated" }> {
  const family = ip.includes(":") ? "ip6" : "ip4";
  const edge = { type: "SocketConnection" as const, sinkMultiaddr: `/${family}/${ip}/tcp/52414` };
  return { type: "TopologyEdgeCreated", connection: { source, sink, edge } };
}

/** A node has found something out about itself. */
export function gathered(
  nodeId: NodeId,
  info: GatheredInfo,
  incarnation = 1,
): Extract<Event, { type: "NodeGatheredInfo" }> {
  return { type: "NodeGatheredInfo", nodeId, incarnation, info };
}

/** A link from prefilling to decoding instances. */
export function linkCreated(
  id: string,
  prefillInstances: readonly string[],
  decodeInstances: readonly string[],
): Extract<Event, { type: "InstanceLinkCreated" }> {
  const link = { linkId: id, prefillInstances, decodeInstances };
  return { type: "InstanceLinkCreated", link } as Extract<Event, { type: "InstanceLinkCreated" }>;
}

/** A wish for {@linkcode MODEL}, with what a test does not care about filled in. */
export function specOf(
  id: string,
  fields: Partial<z.input<typeof MetaInstanceSpec>> = {},
): MetaInstanceSpec {
  return MetaInstanceSpec.parse({ metaInstanceId: id, modelId: MODEL, ...fields });
}

/** The same as the cluster keeps it. */
export function metaOf(
  id: string,
  fields: Partial<z.input<typeof MetaInstance>> = {},
): MetaInstance {
  return MetaInstance.parse({ metaInstanceId: id, modelId: MODEL, ...fields });
}

/** Somebody has made a wish. */
export function metaCreated(metaInstance: MetaInstance): Event {
  return { type: "MetaInstanceCreated", metaInstance };
}

/** An instance of a wish. */
export function boundTo(id: string, instance: Instance): Instance {
  return { ...instance, metaInstanceId: metaId(id) };
}

/** An instance whose layers are divided evenly over the nodes, in a ring of their addresses. */
export function ringOf(
  id: string,
  nodeIds: readonly NodeId[],
  card: ModelCard = cardOf(),
): Extract<Instance, { type: "MlxRingInstance" }> {
  const instance = instanceOf(id, nodeIds, { card });
  const cut = (rank: number) => Math.round(card.nLayers * rank / nodeIds.length);
  const hosts = nodeIds.map((_, rank) => ({ ip: `10.0.0.${rank + 1}`, port: 50_000 }));
  const ring = withShards(instance, (shard) => ({
    ...shard,
    startLayer: cut(shard.deviceRank),
    endLayer: cut(shard.deviceRank + 1),
  }));
  return {
    ...ring,
    type: "MlxRingInstance",
    hostsByNode: Object.fromEntries(nodeIds.map((nodeId) => [nodeId, hosts])),
    ephemeralPort: 50_000,
  } as Extract<Instance, { type: "MlxRingInstance" }>;
}

/** An instance with other shards. */
export function withShards<T extends Instance>(
  instance: T,
  change: (shard: Shard, runnerId: RunnerId) => Shard,
): T {
  const { shardAssignments } = instance;
  const shards = Object.entries(shardAssignments.runnerToShard)
    .map(([id, shard]) => [id, change(shard, id as RunnerId)]);
  const runnerToShard = Object.fromEntries(shards);
  return { ...instance, shardAssignments: { ...shardAssignments, runnerToShard } };
}

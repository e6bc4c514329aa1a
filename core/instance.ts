import { z } from "zod";
import { InstanceId, ModelId, NodeId, RunnerId } from "./ids.ts";
import { ModelCard } from "./model_card.ts";
import { SamplingParams } from "./sampling.ts";

/** How layers are divided over nodes. */
export const Sharding = z.enum(["Pipeline", "Tensor"]);
export type Sharding = z.infer<typeof Sharding>;

/** How the ranks of an instance talk to each other. */
export const InstanceMeta = z.enum(["MlxRing", "MlxJaccl"]);
export type InstanceMeta = z.infer<typeof InstanceMeta>;

/** What an instance is told beyond its placement. */
export const InstanceConfig = z.object({
  /** Longest prompt plus answer in tokens; memory is reserved for it. */
  contextTokens: z.number().int().min(1).max(16_777_216).optional(),
  /** Bits of a cached key or value; absent: as the device keeps them best, 16 mostly. */
  kvBits: z.union([z.literal(8), z.literal(4)]).optional(),
  /** Generations computed at once; further ones wait in the queue. */
  maxConcurrentRequests: z.number().int().min(1).max(1024).optional(),
  /** Most prompt tokens that one step takes. */
  prefillChunkTokens: z.number().int().min(1).max(65_536).optional(),
  samplingDefaults: SamplingParams.optional(),
});
export type InstanceConfig = z.infer<typeof InstanceConfig>;

/** A slice of a model: layers [startLayer, endLayer) on one rank. */
export const Shard = z.object({
  type: z.literal("PipelineShardMetadata"),
  modelCard: ModelCard,
  deviceRank: z.number().int().min(0),
  worldSize: z.number().int().min(1),
  startLayer: z.number().int().min(0),
  endLayer: z.number().int().min(1),
  nLayers: z.number().int().min(1),
});
export type Shard = z.infer<typeof Shard>;

/** Which node runs which rank. Every runner of `nodeToRunner` is a key of `runnerToShard`. */
export const ShardAssignments = z.object({
  modelId: ModelId,
  runnerToShard: z.record(RunnerId, Shard),
  nodeToRunner: z.record(NodeId, RunnerId),
});
export type ShardAssignments = z.infer<typeof ShardAssignments>;

/** A model placed on the cluster. */
export const Instance = z.object({
  type: z.literal("MlxRingInstance"),
  instanceId: InstanceId,
  shardAssignments: ShardAssignments,
  /** Ring neighbours by node; empty for a single rank. */
  hostsByNode: z.record(NodeId, z.array(z.object({ ip: z.string(), port: z.number().int() }))),
  config: InstanceConfig.optional(),
});
export type Instance = z.infer<typeof Instance>;

/** The runner that `nodeId` has in an instance, with its shard; undefined when it has none. */
export function rankOn(
  instance: Instance,
  nodeId: NodeId,
): { runnerId: RunnerId; shard: Shard } | undefined {
  const runnerId = instance.shardAssignments.nodeToRunner[nodeId];
  if (runnerId === undefined) return undefined;
  const shard = instance.shardAssignments.runnerToShard[runnerId];
  return shard === undefined ? undefined : { runnerId, shard };
}

/** All runners of an instance, by rank. */
export function runnersOf(instance: Instance): RunnerId[] {
  const shards = Object.entries(instance.shardAssignments.runnerToShard);
  shards.sort(([, a], [, b]) => a.deviceRank - b.deviceRank);
  return shards.map(([runnerId]) => RunnerId.parse(runnerId));
}

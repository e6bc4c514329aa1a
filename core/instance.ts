import { z } from "zod";
import { boundedArray, boundedRecord } from "./bounded.ts";
import { InstanceId, MetaInstanceId, ModelId, NodeId, RunnerId } from "./ids.ts";
import { ModelCard } from "./model_card.ts";
import { PortRange } from "./port_range.ts";
import { SamplingParams } from "./sampling.ts";

/** Most ranks of an instance, and so hosts, devices and shards. */
const RANKS_MAX = 4_096;

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

const rank = {
  modelCard: ModelCard,
  deviceRank: z.number().int().min(0),
  worldSize: z.number().int().min(1),
  startLayer: z.number().int().min(0),
  endLayer: z.number().int().min(1),
  nLayers: z.number().int().min(1),
};

/** A slice of a model: layers [startLayer, endLayer) on one rank. */
export const Shard = z.discriminatedUnion("type", [
  z.object({ type: z.literal("PipelineShardMetadata"), ...rank }),
  /** All layers, a part of each. */
  z.object({ type: z.literal("TensorShardMetadata"), ...rank }),
  /** Of an image model whose two halves of classifier-free guidance run side by side. */
  z.object({
    type: z.literal("CfgShardMetadata"),
    ...rank,
    /** 0 with the prompt, 1 with the negative prompt. */
    cfgRank: z.number().int().min(0).max(1),
    cfgWorldSize: z.literal(2),
    pipelineRank: z.number().int().min(0),
    pipelineWorldSize: z.number().int().min(1),
  }),
]);
export type Shard = z.infer<typeof Shard>;

/** Which node runs which rank. Every runner of `nodeToRunner` is a key of `runnerToShard`. */
export const ShardAssignments = z.object({
  modelId: ModelId,
  runnerToShard: boundedRecord(RunnerId, Shard, RANKS_MAX),
  nodeToRunner: boundedRecord(NodeId, RunnerId, RANKS_MAX),
});
export type ShardAssignments = z.infer<typeof ShardAssignments>;

/** An address of a rank. */
export const Host = z.object({ ip: z.string(), port: z.number().int().min(0).max(65_535) });
export type Host = z.infer<typeof Host>;

/** Where a rank meets others: what the tables of an instance are made of. */
export const RankAddress = z.object({
  /** At which it listens for its left neighbour. */
  sinkIp: z.string(),
  /** What that one has on the same link; absent: not known, nor needed. */
  sourceIp: z.string().optional(),
  /** At which it reaches the coordinator of RDMA; absent: where it did, or there is none. */
  coordinatorIp: z.string().optional(),
});
export type RankAddress = z.infer<typeof RankAddress>;

const placed = {
  instanceId: InstanceId,
  shardAssignments: ShardAssignments,
  /** The wish that it was made for; only this binds them. */
  metaInstanceId: MetaInstanceId.optional(),
  config: InstanceConfig.optional(),
  /** What the ports of its ranks are taken from, where that was said (`--ring-ports`). */
  portRange: PortRange.optional(),
};

/** A model placed on the cluster. */
export const Instance = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("MlxRingInstance"),
    ...placed,
    /** For each node the hosts of all ranks as it sees them; empty for a single rank. */
    hostsByNode: boundedRecord(NodeId, boundedArray(Host, RANKS_MAX), RANKS_MAX),
    /** The port of the ring; absent for a single rank. */
    ephemeralPort: z.number().int().min(1).max(65_535).optional(),
  }),
  z.object({
    type: z.literal("MlxJacclInstance"),
    ...placed,
    /** Row and column are ranks: the device of the row's rank on the cable to the column's. */
    jacclDevices: boundedArray(boundedArray(z.string().nullable(), RANKS_MAX), RANKS_MAX),
    /** Where each node finds the coordinator: `ip:port`. */
    jacclCoordinators: boundedRecord(NodeId, z.string(), RANKS_MAX),
    /** As of a ring: frames go round one. Empty as long as nobody has said. */
    hostsByNode: boundedRecord(NodeId, boundedArray(Host, RANKS_MAX), RANKS_MAX).default({}),
  }),
]);
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
  return shards.map(([runnerId]) => runnerId as RunnerId);
}

/** The nodes of an instance, by rank. */
export function nodesByRank(instance: Instance): NodeId[] {
  const order = runnersOf(instance);
  const bound = Object.entries(instance.shardAssignments.nodeToRunner) as [NodeId, RunnerId][];
  return bound.toSorted(([, a], [, b]) => order.indexOf(a) - order.indexOf(b)).map(([id]) => id);
}

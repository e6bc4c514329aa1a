import { z } from "zod";
import { ModelId, NodeId } from "./ids.ts";
import { InstanceConfig, InstanceMeta, Sharding } from "./instance.ts";
import { PortRange } from "./ports.ts";

/** Most nodes that a request may name. */
export const NODES_MAX = 1_024;

const nodeIds = z.array(NodeId).max(NODES_MAX);

/** Which of the possible placements is the best (spec §3.9, design rulings). */
export const Preference = z.enum(["smallest", "latency", "throughput", "widest"]);
export type Preference = z.infer<typeof Preference>;

/** What a user wants placed. */
export const PlacementRequest = z.object({
  modelId: ModelId,
  sharding: Sharding.default("Pipeline"),
  instanceMeta: InstanceMeta.default("MlxRing"),
  minNodes: z.number().int().min(1).max(NODES_MAX).default(1),
  /** The instance must contain these nodes. */
  nodeIds: nodeIds.optional(),
  /** Whether it must contain no others. */
  exact: z.boolean().optional(),
  /** Never these nodes. */
  excludedNodeIds: nodeIds.optional(),
  prefer: Preference.default("smallest"),
  /** Layers of each node, for a pipeline that is divided by hand. */
  nodeLayers: z.record(NodeId, z.number().int().min(1)).optional(),
  /** Most bytes that may be taken of a node. */
  memoryLimits: z.record(NodeId, z.number().int().min(0)).optional(),
  /** Places although the memory does not suffice by our reckoning. */
  force: z.boolean().optional(),
  config: InstanceConfig.optional(),
  /** Where its ranks meet; absent: at any dynamic port. */
  ringPorts: PortRange.optional(),
});
export type PlacementRequest = z.infer<typeof PlacementRequest>;

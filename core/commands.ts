import { z } from "zod";
import { DownloadStatus } from "./download.ts";
import { ErrorInfo } from "./errors.ts";
import { CommandId, InstanceId, ModelId, NodeId } from "./ids.ts";
import { Instance, InstanceConfig, InstanceMeta, Sharding } from "./instance.ts";
import { ModelCard } from "./model_card.ts";

const commandId = CommandId;

/** What a user wants placed. */
export const PlacementRequest = z.object({
  modelId: ModelId,
  sharding: Sharding.default("Pipeline"),
  instanceMeta: InstanceMeta.default("MlxRing"),
  minNodes: z.number().int().min(1).max(1024).default(1),
  /** The instance must contain these nodes. */
  nodeIds: z.array(NodeId).max(1024).optional(),
  config: InstanceConfig.optional(),
});
export type PlacementRequest = z.infer<typeof PlacementRequest>;

/** What may be asked of the master. */
export const Command = z.discriminatedUnion("type", [
  /** The id of the instance to be comes with the command, so that a repeat makes no second one. */
  z.object({
    type: z.literal("PlaceInstance"),
    commandId,
    instanceId: InstanceId,
    request: PlacementRequest,
  }),
  z.object({ type: z.literal("CreateInstance"), commandId, instance: Instance }),
  z.object({ type: z.literal("DeleteInstance"), commandId, instanceId: InstanceId }),
  z.object({
    type: z.literal("TextGeneration"),
    commandId,
    modelId: ModelId,
    apiNodeId: NodeId,
  }),
  z.object({ type: z.literal("TaskCancelled"), commandId, cancelledCommandId: CommandId }),
  z.object({ type: z.literal("TaskFinished"), commandId, finishedCommandId: CommandId }),
  z.object({
    type: z.literal("AddCustomModelCard"),
    commandId,
    modelCard: ModelCard,
    /** The node that has the files already, when one does. */
    holder: z.object({ nodeId: NodeId, status: DownloadStatus }).optional(),
  }),
  z.object({ type: z.literal("DeleteCustomModelCard"), commandId, modelId: ModelId }),
]);
export type Command = z.infer<typeof Command>;

/** The master's answer. Every command gets exactly one. */
export const CommandReply = z.discriminatedUnion("type", [
  /** `idx`: the last event of this command; its effects are in any state that has applied it. */
  z.object({
    type: z.literal("CommandAccepted"),
    commandId,
    idx: z.number().int().min(-1),
    instanceId: InstanceId.optional(),
  }),
  z.object({ type: z.literal("CommandRejected"), commandId, error: ErrorInfo }),
]);
export type CommandReply = z.infer<typeof CommandReply>;

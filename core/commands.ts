import { z } from "zod";
import { DownloadStatus } from "./download.ts";
import { ErrorInfo } from "./errors.ts";
import { CommandId, InstanceId, InstanceLinkId, MetaInstanceId, ModelId, NodeId } from "./ids.ts";
import { Instance } from "./instance.ts";
import { InstanceLink, LINK_INSTANCES_MAX } from "./instance_link.ts";
import { IntentKey } from "./intent_key.ts";
import { ClosedSegment, LineageSegment, Stamp } from "./lineage.ts";
import { MetaInstance, MetaInstanceSpec } from "./meta_instance.ts";
import { ModelCard } from "./model_card.ts";
import { PlacementRequest } from "./placement_request.ts";
import { TaskType } from "./task.ts";

const commandId = CommandId;

const linkEnds = z.array(InstanceId).max(LINK_INSTANCES_MAX);

/** What may be asked of the master. */
export const Command = z.discriminatedUnion("type", [
  /** The id of the instance to be comes with the command, so that a repeat makes no second one. */
  z.object({
    type: z.literal("PlaceInstance"),
    commandId,
    instanceId: InstanceId,
    request: PlacementRequest,
    /** As the asking node knows the model; a custom card of the cluster goes before it. */
    modelCard: ModelCard.optional(),
  }),
  z.object({ type: z.literal("CreateInstance"), commandId, instance: Instance }),
  z.object({ type: z.literal("DeleteInstance"), commandId, instanceId: InstanceId }),
  /** A generation; its prompt stays with the asking node. */
  z.object({
    type: TaskType,
    commandId,
    modelId: ModelId,
    apiNodeId: NodeId,
    /** Where it has just failed: another instance is asked if there is one. */
    avoid: InstanceId.optional(),
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
  /** Creates or replaces a link. */
  z.object({
    type: z.literal("SetInstanceLink"),
    commandId,
    linkId: InstanceLinkId,
    prefillInstances: linkEnds,
    decodeInstances: linkEnds,
  }),
  z.object({ type: z.literal("DeleteInstanceLink"), commandId, linkId: InstanceLinkId }),
  /** `instanceId` is that of the instance that is placed at once, when one can be. */
  z.object({
    type: z.literal("CreateMetaInstance"),
    commandId,
    metaInstance: MetaInstanceSpec,
    instanceId: InstanceId,
    modelCard: ModelCard.optional(),
  }),
  z.object({ type: z.literal("DeleteMetaInstance"), commandId, metaInstanceId: MetaInstanceId }),
  /** Arms a parked meta-instance again, or ends the wait of a retrying one. */
  z.object({ type: z.literal("RetryMetaInstance"), commandId, metaInstanceId: MetaInstanceId }),
  /** What the losing side of a partition brings to the side that goes on (D15). */
  z.object({
    type: z.literal("MergeLineage"),
    commandId,
    /** The history that this was put together against: another merge since may change what is due. */
    against: z.array(LineageSegment),
    segments: z.array(ClosedSegment),
    modelCards: z.array(z.object({ stamp: Stamp, modelCard: ModelCard })),
    metaInstances: z.array(z.object({ stamp: Stamp, metaInstance: MetaInstance })),
    instances: z.array(z.object({ stamp: Stamp, instance: Instance, isServing: z.boolean() })),
    links: z.array(z.object({ stamp: Stamp, link: InstanceLink })),
    /** Things of the common history that are gone here, by the stamps that they had. */
    deleted: z.array(z.object({ key: IntentKey, stamp: Stamp })),
  }),
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
    metaInstanceId: MetaInstanceId.optional(),
  }),
  z.object({ type: z.literal("CommandRejected"), commandId, error: ErrorInfo }),
]);
export type CommandReply = z.infer<typeof CommandReply>;

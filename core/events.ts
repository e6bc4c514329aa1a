import { z } from "zod";
import { Connection } from "./connection.ts";
import { DownloadStatus } from "./download.ts";
import {
  InstanceId,
  InstanceLinkId,
  MetaInstanceId,
  ModelId,
  NodeId,
  RunnerId,
  TaskId,
} from "./ids.ts";
import { GROUP_SIZE_MAX } from "./group.ts";
import { Instance, RankAddress } from "./instance.ts";
import { InstanceLink } from "./instance_link.ts";
import { IntentKey } from "./intent_key.ts";
import { ClosedSegment, Epoch, Stamp } from "./lineage.ts";
import { MetaInstance } from "./meta_instance.ts";
import { ModelCard } from "./model_card.ts";
import { GatheredInfo, NodeInfo } from "./node_info.ts";
import { PORT_MAX } from "./port_range.ts";
import { RunnerStatus } from "./runner_status.ts";
import { Task, TaskStatus } from "./task.ts";
import { Millis } from "./units.ts";

const incarnation = z.number().int().min(0);

/**
 * What has happened to the cluster. Never here: prompts, tokens, images, KV, memory, CPU, bytes
 * downloaded (design D3).
 */
export const Event = z.discriminatedUnion("type", [
  /** The first event of each epoch: its master goes on from the state before it. */
  z.object({ type: z.literal("EpochStarted") }),
  z.object({ type: z.literal("NodeStarted"), nodeId: NodeId, incarnation, info: NodeInfo }),
  z.object({
    type: z.literal("NodeGatheredInfo"),
    nodeId: NodeId,
    incarnation,
    info: GatheredInfo,
  }),
  z.object({ type: z.literal("NodeTimedOut"), nodeId: NodeId }),
  /** A node was stopped, and said so itself. */
  z.object({ type: z.literal("NodeLeft"), nodeId: NodeId, incarnation }),
  z.object({ type: z.literal("TopologyEdgeCreated"), connection: Connection }),
  z.object({ type: z.literal("TopologyEdgeDeleted"), connection: Connection }),
  z.object({ type: z.literal("InstanceCreated"), instance: Instance }),
  z.object({
    type: z.literal("InstanceDeleted"),
    instanceId: InstanceId,
    /** Present when it was given up, absent when somebody wanted it gone. */
    failureError: z.string().optional(),
  }),
  z.object({
    type: z.literal("InstanceRetrying"),
    instanceId: InstanceId,
    failureError: z.string(),
    notBefore: Millis,
    /** Where its ranks listen from now on, as `portsOfRetry` has it; absent: where they did. */
    ports: z.array(z.number().int().min(1).max(PORT_MAX)).max(GROUP_SIZE_MAX).optional(),
    /** Where they meet from now on, as `waysOfRetry` has it; absent: where they did. */
    addresses: z.array(RankAddress).max(GROUP_SIZE_MAX).optional(),
  }),
  z.object({ type: z.literal("InstanceRetriesReset"), instanceId: InstanceId }),
  z.object({
    type: z.literal("RunnerStatusUpdated"),
    runnerId: RunnerId,
    status: RunnerStatus,
    incarnation,
    at: Millis,
  }),
  z.object({ type: z.literal("TaskCreated"), task: Task }),
  z.object({ type: z.literal("TaskStatusUpdated"), taskId: TaskId, taskStatus: TaskStatus }),
  z.object({
    type: z.literal("TaskFailed"),
    taskId: TaskId,
    errorType: z.string(),
    errorMessage: z.string(),
  }),
  z.object({ type: z.literal("TaskDeleted"), taskId: TaskId }),
  z.object({
    type: z.literal("NodeDownloadProgress"),
    nodeId: NodeId,
    modelId: ModelId,
    status: DownloadStatus,
  }),
  z.object({ type: z.literal("CustomModelCardAdded"), modelCard: ModelCard }),
  z.object({ type: z.literal("CustomModelCardDeleted"), modelId: ModelId }),
  z.object({ type: z.literal("InstanceLinkCreated"), link: InstanceLink }),
  z.object({ type: z.literal("InstanceLinkDeleted"), linkId: InstanceLinkId }),
  z.object({ type: z.literal("MetaInstanceCreated"), metaInstance: MetaInstance }),
  z.object({ type: z.literal("MetaInstanceDeleted"), metaInstanceId: MetaInstanceId }),
  z.object({
    type: z.literal("MetaInstanceCardResolved"),
    metaInstanceId: MetaInstanceId,
    modelCard: ModelCard,
  }),
  z.object({
    type: z.literal("MetaInstancePlacementFailed"),
    metaInstanceId: MetaInstanceId,
    reason: z.string(),
  }),
  z.object({ type: z.literal("MetaInstanceReady"), metaInstanceId: MetaInstanceId }),
  z.object({
    type: z.literal("MetaInstanceParked"),
    metaInstanceId: MetaInstanceId,
    reason: z.string(),
  }),
  z.object({ type: z.literal("MetaInstanceRearmed"), metaInstanceId: MetaInstanceId }),
  /**
   * What the losing side of a partition had been asked for: things that this history has never
   * heard of, under their old ids and stamps, and things of this history that it had deleted.
   * One event, so that it is merged as a whole or not at all.
   */
  z.object({
    type: z.literal("LineageMerged"),
    segments: z.array(ClosedSegment),
    modelCards: z.array(z.object({ stamp: Stamp, modelCard: ModelCard })),
    metaInstances: z.array(z.object({ stamp: Stamp, metaInstance: MetaInstance })),
    instances: z.array(z.object({ stamp: Stamp, instance: Instance })),
    links: z.array(z.object({ stamp: Stamp, link: InstanceLink })),
    deleted: z.array(IntentKey),
  }),
]);
export type Event = z.infer<typeof Event>;

/** An event with its place in the log. */
export const IndexedEvent = z.object({ idx: z.number().int().min(0), epoch: Epoch, event: Event });
export type IndexedEvent = z.infer<typeof IndexedEvent>;

/** Events whose loss could be told from outside: intents, and the first of each epoch. */
const DURABLE: ReadonlySet<Event["type"]> = new Set([
  "EpochStarted",
  "NodeStarted",
  "InstanceCreated",
  "InstanceDeleted",
  "CustomModelCardAdded",
  "CustomModelCardDeleted",
  "InstanceLinkCreated",
  "InstanceLinkDeleted",
  "MetaInstanceCreated",
  "MetaInstanceDeleted",
  "MetaInstanceRearmed",
  "LineageMerged",
]);

/**
 * Whether an event reaches the disk before anybody hears of it: a user's intent, or the first event
 * of an epoch, which must not be given twice.
 */
export function isDurable(event: Event): boolean {
  return DURABLE.has(event.type);
}

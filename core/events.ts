import { z } from "zod";
import { DownloadStatus } from "./download.ts";
import { InstanceId, ModelId, NodeId, RunnerId, TaskId } from "./ids.ts";
import { Instance } from "./instance.ts";
import { ModelCard } from "./model_card.ts";
import { NodeInfo } from "./node_info.ts";
import { RunnerStatus } from "./runner_status.ts";
import { Task, TaskStatus } from "./task.ts";
import { Millis } from "./units.ts";

const incarnation = z.number().int().min(0);

/**
 * What has happened to the cluster. Never here: prompts, tokens, images, KV, memory, CPU, bytes
 * downloaded (design D3).
 */
export const Event = z.discriminatedUnion("type", [
  z.object({ type: z.literal("NodeStarted"), nodeId: NodeId, incarnation, info: NodeInfo }),
  z.object({ type: z.literal("InstanceCreated"), instance: Instance }),
  z.object({
    type: z.literal("InstanceDeleted"),
    instanceId: InstanceId,
    failureError: z.string().optional(),
  }),
  z.object({
    type: z.literal("InstanceRetrying"),
    instanceId: InstanceId,
    failureError: z.string(),
    notBefore: Millis,
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
  z.object({ type: z.literal("TaskDeleted"), taskId: TaskId }),
  z.object({
    type: z.literal("NodeDownloadProgress"),
    nodeId: NodeId,
    modelId: ModelId,
    status: DownloadStatus,
  }),
  z.object({ type: z.literal("CustomModelCardAdded"), modelCard: ModelCard }),
  z.object({ type: z.literal("CustomModelCardDeleted"), modelId: ModelId }),
]);
export type Event = z.infer<typeof Event>;

/** The reign of a master: the highest (clock, nodeId) wins (D15). */
export const Epoch = z.object({ clock: z.number().int().min(0), nodeId: NodeId });
export type Epoch = z.infer<typeof Epoch>;

/** An event with its place in the log. */
export const IndexedEvent = z.object({ idx: z.number().int().min(0), epoch: Epoch, event: Event });
export type IndexedEvent = z.infer<typeof IndexedEvent>;

/**
 * Whether an event reaches the disk before anybody hears of it: a user's intent, or the first event
 * of an epoch, which must not be given twice.
 */
export function isDurable(event: Event): boolean {
  switch (event.type) {
    case "NodeStarted":
    case "InstanceCreated":
    case "InstanceDeleted":
    case "CustomModelCardAdded":
    case "CustomModelCardDeleted":
      return true;
    default:
      return false;
  }
}

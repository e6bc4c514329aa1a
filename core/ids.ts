import { z } from "zod";

/** A machine of the cluster: the libp2p PeerId of its Ed25519 key. */
export const NodeId = z.string().min(1).max(128).brand<"NodeId">();
export type NodeId = z.infer<typeof NodeId>;

/** A model placed on the cluster. */
export const InstanceId = z.string().min(1).max(128).brand<"InstanceId">();
export type InstanceId = z.infer<typeof InstanceId>;

/** A wish that an instance of a model always exists. */
export const MetaInstanceId = z.string().min(1).max(128).brand<"MetaInstanceId">();
export type MetaInstanceId = z.infer<typeof MetaInstanceId>;

/** A link from instances that prefill to instances that decode. */
export const InstanceLinkId = z.string().min(1).max(128).brand<"InstanceLinkId">();
export type InstanceLinkId = z.infer<typeof InstanceLinkId>;

/** One rank of an instance; its process changes, its id does not. */
export const RunnerId = z.string().min(1).max(160).brand<"RunnerId">();
export type RunnerId = z.infer<typeof RunnerId>;

/** A model: `org/name` of a hub, or `local/<slug>-<8 hex>` of a file on a disk. */
export const ModelId = z.string().min(1).max(256).brand<"ModelId">();
export type ModelId = z.infer<typeof ModelId>;

/** One request of the cluster; replies and streams are correlated by it. */
export const CommandId = z.string().min(1).max(128).brand<"CommandId">();
export type CommandId = z.infer<typeof CommandId>;

/** One generation that an instance serves. */
export const TaskId = z.string().min(1).max(128).brand<"TaskId">();
export type TaskId = z.infer<typeof TaskId>;

/**
 * The runner of a rank. Derived, so that every node names it alike and a repeated decision makes
 * no second runner.
 */
export function runnerIdOf(instanceId: InstanceId, deviceRank: number): RunnerId {
  return RunnerId.parse(`${instanceId}:${deviceRank}`);
}

/** The task of a command: one generation for one request. */
export function taskIdOf(commandId: CommandId): TaskId {
  return TaskId.parse(commandId);
}

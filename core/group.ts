import { z } from "zod";
import type { NodeId, RunnerId } from "./ids.ts";
import { Host, type Instance, nodesByRank, runnersOf } from "./instance.ts";
import { GROUP_ID_LENGTH_MAX } from "./runner_status.ts";

/** Most ranks of an instance. */
export const GROUP_SIZE_MAX = 64;

/** How long the ranks of an instance may take to meet. */
export const JOIN_TIMEOUT_MS = 60_000;

/**
 * The hosts of all ranks as one of them sees them, by rank: it listens at its own, over TCP, and
 * connects to the next one's.
 */
const RingHosts = z.array(Host).min(2).max(GROUP_SIZE_MAX);

/** Over what the ranks of an instance talk to each other. */
export const GroupLink = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("ring"),
    hosts: RingHosts,
  }),
  z.object({
    /** A ring for frames, and for sums RDMA over Thunderbolt, by MLX. */
    type: z.literal("jaccl"),
    hosts: RingHosts,
    /** Row and column are ranks: the device of the row's rank on the cable to the column's. */
    devices: z.array(z.array(z.string().nullable()).max(GROUP_SIZE_MAX)).max(GROUP_SIZE_MAX),
    /** `ip:port` at which the first rank listens, as this one reaches it. */
    coordinator: z.string(),
    /**
     * Named pipes over which the devices of all ranks are told, in place of the coordinator:
     * `input` is read by the rank, `output` written. Absent: by the coordinator.
     */
    sideChannel: z.object({ input: z.string(), output: z.string() }).optional(),
  }),
]);
export type GroupLink = z.infer<typeof GroupLink>;

/** What a rank must know to meet the others of its instance. */
export const GroupSpec = z.object({
  /** Names these very processes: whoever brings another name is not of the group. */
  groupId: z.string().min(1).max(GROUP_ID_LENGTH_MAX),
  rank: z.number().int().min(0),
  size: z.number().int().min(2).max(GROUP_SIZE_MAX),
  /** What the nodes are called, by rank: errors name them. */
  names: z.array(z.string()).min(2).max(GROUP_SIZE_MAX),
  link: GroupLink,
});
export type GroupSpec = z.infer<typeof GroupSpec>;

/**
 * What the rank of an instance on `nodeId` must know to meet the others; undefined where the
 * instance has no such rank, or but one. `incarnations` has all of its runners.
 */
export function groupSpecOf(
  instance: Instance,
  { nodeId, incarnations, names }: {
    readonly nodeId: NodeId;
    readonly incarnations: ReadonlyMap<RunnerId, number>;
    readonly names: ReadonlyMap<NodeId, string>;
  },
): GroupSpec | undefined {
  const nodes = nodesByRank(instance);
  const rank = nodes.indexOf(nodeId);
  const link = linkOf(instance, nodeId);
  if (rank < 0 || nodes.length < 2 || !link) return undefined;
  return {
    groupId: groupIdOf(instance, incarnations),
    rank,
    size: nodes.length,
    names: nodes.map((id) => names.get(id) ?? id),
    link,
  };
}

/** Names these very processes of an instance; `incarnations` has all of its runners. */
export function groupIdOf(
  instance: Instance,
  incarnations: ReadonlyMap<RunnerId, number | undefined>,
): string {
  const starts = runnersOf(instance).map((runnerId) => incarnations.get(runnerId) ?? "?");
  return `${instance.instanceId}/${starts.join(".")}`;
}

function linkOf(instance: Instance, nodeId: NodeId): GroupLink | undefined {
  const hosts = instance.hostsByNode[nodeId];
  if (!hosts) return undefined;
  if (instance.type === "MlxRingInstance") return { type: "ring", hosts };
  const coordinator = instance.jacclCoordinators[nodeId];
  if (coordinator === undefined) return undefined;
  return { type: "jaccl", hosts, devices: instance.jacclDevices, coordinator };
}

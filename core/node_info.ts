import { z } from "zod";
import { Backend } from "./model_card.ts";

/** What a node says of itself when it starts. */
export const NodeInfo = z.object({
  friendlyName: z.string(),
  /** The machine's model, such as `Mac Studio`. */
  machineModel: z.string().default("Unknown"),
  chipId: z.string(),
  osVersion: z.string(),
  osBuildVersion: z.string().default("Unknown"),
  exoVersion: z.string(),
  backends: z.array(Backend),
  /** Measured by reading weights' worth of memory; absent: nobody has measured. */
  memoryBandwidthBytesPerSecond: z.number().min(0).optional(),
  /** Whether it fetches models that it lacks; absent: a node on paper, for which files do not count. */
  fetchesModels: z.boolean().optional(),
});
export type NodeInfo = z.infer<typeof NodeInfo>;

/** What a network interface is made of, as far as the system tells. */
export const InterfaceType = z.enum([
  "wifi",
  "ethernet",
  "maybe_ethernet",
  "thunderbolt",
  "unknown",
]);
export type InterfaceType = z.infer<typeof InterfaceType>;

/** An address of a node. */
export const NetworkInterface = z.object({
  name: z.string(),
  ipAddress: z.string(),
  interfaceType: InterfaceType,
});
export type NetworkInterface = z.infer<typeof NetworkInterface>;

/** A Thunderbolt port with its RDMA device. */
export const ThunderboltIdent = z.object({
  rdmaInterface: z.string(),
  domainUuid: z.string(),
  linkSpeed: z.string().default(""),
});
export type ThunderboltIdent = z.infer<typeof ThunderboltIdent>;

/** Whether the system bridges its Thunderbolt ports; several such nodes in a ring make a storm. */
export const ThunderboltBridgeStatus = z.object({
  enabled: z.boolean(),
  exists: z.boolean(),
  serviceName: z.string().optional(),
});
export type ThunderboltBridgeStatus = z.infer<typeof ThunderboltBridgeStatus>;

/** A fact that a node has found out about itself; told on change only. */
export const GatheredInfo = z.discriminatedUnion("type", [
  z.object({ type: z.literal("MiscData"), friendlyName: z.string() }),
  z.object({
    type: z.literal("StaticNodeInformation"),
    machineModel: z.string(),
    chipId: z.string(),
    osVersion: z.string(),
    osBuildVersion: z.string(),
  }),
  z.object({ type: z.literal("NodeBackends"), backends: z.array(Backend) }),
  z.object({
    type: z.literal("MemoryBandwidth"),
    memoryBandwidthBytesPerSecond: z.number().min(0),
  }),
  z.object({
    type: z.literal("NodeNetworkInterfaces"),
    interfaces: z.array(NetworkInterface).max(256),
  }),
  z.object({
    type: z.literal("MacThunderboltIdentifiers"),
    idents: z.array(ThunderboltIdent).max(64),
  }),
  /** Cables, by the UUIDs of the ports at their ends. */
  z.object({
    type: z.literal("MacThunderboltConnections"),
    connections: z.array(z.object({ sourceUuid: z.string(), sinkUuid: z.string() })).max(64),
  }),
  z.object({ type: z.literal("ThunderboltBridgeInfo"), status: ThunderboltBridgeStatus }),
  z.object({ type: z.literal("RdmaCtlStatus"), enabled: z.boolean() }),
]);
export type GatheredInfo = z.infer<typeof GatheredInfo>;

/** A node as the cluster knows it. */
export const NodeState = z.object({
  /** Counts the starts of the node; a newer one supersedes the older at once (D13). */
  incarnation: z.number().int().min(0),
  info: NodeInfo,
  network: z.array(NetworkInterface).default([]),
  thunderbolt: z.array(ThunderboltIdent).default([]),
  thunderboltBridge: ThunderboltBridgeStatus.optional(),
  /** Whether RDMA is switched on; absent: not observed, which counts as off. */
  rdmaCtlEnabled: z.boolean().optional(),
});
export type NodeState = z.infer<typeof NodeState>;

import { z } from "zod";
import { Backend } from "./model_card.ts";

/** What a node says of itself; an event only when it changes. */
export const NodeInfo = z.object({
  friendlyName: z.string(),
  osVersion: z.string(),
  chipId: z.string(),
  exoVersion: z.string(),
  backends: z.array(Backend),
});
export type NodeInfo = z.infer<typeof NodeInfo>;

/** A node as the cluster knows it. */
export const NodeState = z.object({
  /** Counts the starts of the node; a newer one supersedes the older at once (D13). */
  incarnation: z.number().int().min(0),
  info: NodeInfo,
});
export type NodeState = z.infer<typeof NodeState>;

/** Memory of a node right now: a latest value, never in the log. */
export interface NodeMemory {
  readonly ramTotalBytes: number;
  readonly ramAvailableBytes: number;
}

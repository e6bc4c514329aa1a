import { z } from "zod";
import { MetaInstanceId } from "./ids.ts";
import { ModelCard } from "./model_card.ts";
import { PlacementRequest } from "./placement_request.ts";
import { Millis } from "./units.ts";

/** Failures in a row after which a meta-instance is parked, unless it says otherwise. */
export const META_RETRIES_DEFAULT = 3;

/** Most failures in a row that a meta-instance may ask for. */
export const META_RETRIES_MAX = 1_000;

/** Where a meta-instance stands; `downloading` and `loading` are derived detail. */
export const MetaInstancePhase = z.enum(["placing", "starting", "ready", "retrying", "parked"]);
export type MetaInstancePhase = z.infer<typeof MetaInstancePhase>;

/** What a user declares: an instance of this model with these constraints always exists. */
export const MetaInstanceSpec = PlacementRequest.extend({
  metaInstanceId: MetaInstanceId,
  /** `prefer`: pinned nodes that are away are left out; `strict`: they are waited for. */
  pin: z.enum(["strict", "prefer"]).default("prefer"),
  maxRetries: z.number().int().min(0).max(META_RETRIES_MAX).default(META_RETRIES_DEFAULT),
});
export type MetaInstanceSpec = z.infer<typeof MetaInstanceSpec>;

/** A wish as the cluster keeps it, with how it fares. */
export const MetaInstance = MetaInstanceSpec.extend({
  /** Resolved once; absent while nobody could be asked what the model is. */
  modelCard: ModelCard.optional(),
  phase: MetaInstancePhase.default("placing"),
  /** Why there is no place for it now. */
  placementError: z.string().optional(),
  consecutiveFailures: z.number().int().min(0).default(0),
  lastFailureError: z.string().optional(),
  /** When a failed instance is tried again. */
  nextAttemptAt: Millis.optional(),
  /** Instances that were made for it so far. */
  instancesCreated: z.number().int().min(0).default(0),
  /** The topology at which it was parked: another one arms it again (`State.topologyIdx`). */
  parkedAtTopologyIdx: z.number().int().min(-1).optional(),
});
export type MetaInstance = z.infer<typeof MetaInstance>;

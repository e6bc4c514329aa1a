import type { InstanceConfig, InstanceMeta, Sharding } from "../core/instance.ts";
import type { PlacedShard, Shortage } from "../core/placement.ts";
import type { Preference } from "../core/placement_request.ts";

/** What to place, and how; nodes by id, friendly name or the beginning of one. */
export interface PlaceInput {
  readonly model: string;
  readonly sharding?: Sharding | undefined;
  readonly instanceMeta?: InstanceMeta | undefined;
  readonly minNodes?: number | undefined;
  readonly nodeIds?: readonly string[] | undefined;
  readonly exact?: boolean | undefined;
  readonly excludedNodeIds?: readonly string[] | undefined;
  readonly prefer?: Preference | undefined;
  readonly nodeLayers?: Readonly<Record<string, number>> | undefined;
  readonly memoryLimits?: Readonly<Record<string, number>> | undefined;
  readonly force?: boolean | undefined;
  readonly config?: InstanceConfig | undefined;
}

/** What to keep running, and how hard to try. */
export interface MetaInstanceInput extends PlaceInput {
  readonly pin?: "strict" | "prefer" | undefined;
  readonly maxRetries?: number | undefined;
}

/** A placement as the API reads it. */
export function placementBody(input: PlaceInput): object {
  return {
    model_id: input.model,
    sharding: input.sharding,
    instance_meta: input.instanceMeta,
    min_nodes: input.minNodes,
    node_ids: input.nodeIds,
    exact: input.exact,
    excluded_node_ids: input.excludedNodeIds,
    prefer: input.prefer,
    node_layers: input.nodeLayers,
    memory_limits: input.memoryLimits,
    force: input.force,
    config: input.config,
  };
}

/** A meta-instance as `GET /meta_instances` tells of it, as far as commands read it. */
export interface MetaInstanceView {
  readonly metaInstanceId: string;
  readonly modelId: string;
  readonly phase: string;
  readonly placementError?: string;
  readonly lastFailureError?: string;
  readonly consecutiveFailures: number;
  readonly maxRetries: number;
  readonly nextAttemptAt?: number;
  readonly instanceId?: string;
  /** How far its instance is, until it is ready. */
  readonly detail?: string;
  readonly runners?: Readonly<
    Record<string, { readonly layersLoaded?: number; readonly totalLayers?: number }>
  >;
}

/** A possible placement as `GET /instance/previews` tells of it, or why there is none. */
export interface PreviewView {
  readonly sharding: string;
  readonly instance_meta: string;
  readonly instance: object | null;
  readonly shards?: readonly PlacedShard[];
  readonly memory_delta_by_node: Readonly<Record<string, number>> | null;
  readonly context_tokens?: number;
  readonly shortages?: readonly Shortage[];
  readonly node_ids: readonly string[];
  readonly error: string | null;
}

/** A placement as a query: lists by repetition, tables as JSON. */
export function placementQuery(input: PlaceInput): URLSearchParams {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(placementBody(input))) {
    if (value === undefined) continue;
    if (Array.isArray(value)) { for (const one of value) query.append(key, one); }
    else query.set(key, typeof value === "object" ? JSON.stringify(value) : `${value}`);
  }
  return query;
}

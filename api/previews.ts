import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { InstanceId } from "../core/ids.ts";
import { place, type PlacedShard, type Rejection, type Shortage } from "../core/placement.ts";
import { type Preview, previews } from "../core/previews.ts";
import { encodeInstance, type Json } from "./encode_state.ts";
import { parse } from "./errors.ts";
import type { Gateway } from "./gateway.ts";
import { normalBody, PLACEMENT_EXAMPLES, PLACEMENT_FIELDS, requestOf } from "./placement_body.ts";
import { findModel } from "./resolve.ts";
import type { RouteContext, RouteOptions, Router } from "./routes.ts";

const PlacementQuery = z.strictObject(PLACEMENT_FIELDS);

/** Without a sharding or a transport, all of them are tried. */
const PreviewsQuery = z.strictObject({
  ...PLACEMENT_FIELDS,
  sharding: PLACEMENT_FIELDS.sharding.unwrap().optional(),
  instance_meta: PLACEMENT_FIELDS.instance_meta.unwrap().optional(),
});

/** A possible placement as `GET /instance/previews` shows it, or why there is none (spec §4). */
export interface PreviewJson {
  readonly model_id: string;
  readonly sharding: string;
  readonly instance_meta: string;
  readonly instance: Json;
  /** Bytes of weights and KV that each node would give. */
  readonly memory_delta_by_node: Readonly<Record<string, number>> | null;
  /** Tokens for which KV is reserved in them. */
  readonly context_tokens?: number;
  /** What nodes have too little of, where that was forced. */
  readonly shortages?: readonly Shortage[];
  /** The layers of each node, by rank. */
  readonly shards?: readonly PlacedShard[];
  readonly node_ids: readonly string[];
  readonly error: string | null;
}

/** Shows where a model could go; creates nothing (spec §4). */
export function previewRoutes(router: Router, { gateway }: RouteOptions): void {
  router.get("/instance/placement", (c) => {
    const query = parse(PlacementQuery, normalBody(queryOf(c)), PLACEMENT_EXAMPLES);
    const card = findModel(gateway, query.model_id);
    const state = gateway.state();
    const request = requestOf(gateway, query, card.modelId);
    const instanceId = InstanceId.parse(gateway.newId());
    const placed = place(state, gateway.telemetry(), { instanceId, card, request });
    if (!placed.ok) throw new AppError(placed.code, placed.reason, { hint: placed.hint });
    return c.json(encodeInstance(placed.instance));
  });
  router.get("/instance/previews", (c) => {
    const query = parse(PreviewsQuery, normalBody(queryOf(c)), PLACEMENT_EXAMPLES);
    return c.json({ previews: allPreviews(gateway, query) });
  });
}

function allPreviews(gateway: Gateway, query: z.output<typeof PreviewsQuery>): PreviewJson[] {
  const card = findModel(gateway, query.model_id);
  const state = gateway.state();
  const { modelId } = card;
  const { sharding, instance_meta } = query;
  const fields = {
    ...query,
    sharding: sharding ?? "Pipeline" as const,
    instance_meta: instance_meta ?? "MlxRing" as const,
  };
  const found = previews(state, gateway.telemetry(), {
    card,
    request: requestOf(gateway, fields, modelId),
    instanceId: InstanceId.parse(gateway.newId()),
    ...(sharding ? { shardings: [sharding] } : {}),
    ...(instance_meta ? { instanceMetas: [instance_meta] } : {}),
  });
  return [
    ...found.placements.map((preview) => possible(modelId, preview)),
    ...found.rejected.map((rejection) => impossible(modelId, rejection)),
  ];
}

function possible(model_id: string, preview: Preview): PreviewJson {
  const { sharding, instanceMeta, instance, memoryBytesByNode, shards, shortages } = preview;
  return {
    model_id,
    sharding,
    instance_meta: instanceMeta,
    instance: encodeInstance(instance),
    memory_delta_by_node: Object.fromEntries(memoryBytesByNode),
    context_tokens: preview.contextTokens,
    ...(shortages.length > 0 ? { shortages } : {}),
    node_ids: preview.nodeIds,
    shards,
    error: null,
  };
}

function impossible(model_id: string, rejection: Rejection): PreviewJson {
  const { sharding, instanceMeta: instance_meta, nodeIds: node_ids, reason: error } = rejection;
  const nothing = { instance: null, memory_delta_by_node: null };
  return { model_id, sharding, instance_meta, ...nothing, node_ids, error };
}

const LISTS = ["node_ids", "excluded_node_ids"];
const TABLES = ["node_layers", "memory_limits", "config"];
const SWITCHES = ["exact", "force"];

/** A query as a body would say it: lists by repetition, tables as JSON. */
function queryOf(c: RouteContext): Record<string, unknown> {
  const { searchParams } = new URL(c.req.raw.url);
  return Object.fromEntries(
    [...new Set(searchParams.keys())].map((key) => {
      const text = searchParams.get(key) ?? "";
      if (LISTS.includes(key)) return [key, searchParams.getAll(key)];
      return [key, valueOf(key, text)];
    }),
  );
}

/** What cannot be read stays text, so that the schema's complaint can show it. */
function valueOf(key: string, text: string): unknown {
  const isJson = TABLES.includes(key) || SWITCHES.includes(key) || key === "min_nodes";
  if (!isJson) return text;
  try {
    const value = JSON.parse(text);
    return SWITCHES.includes(key) && (value === 0 || value === 1) ? value === 1 : value;
  } catch {
    return text;
  }
}

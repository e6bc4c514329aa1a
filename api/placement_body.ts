import { z } from "zod";
import { AppError } from "../core/errors.ts";
import type { ModelId, NodeId } from "../core/ids.ts";
import { InstanceConfig, InstanceMeta, Sharding } from "../core/instance.ts";
import { NODES_MAX, PlacementRequest, Preference } from "../core/placement_request.ts";
import { SamplingParams } from "../core/sampling.ts";
import type { Gateway } from "./gateway.ts";
import { findNode, type NamedNode, namedNodes } from "./node_names.ts";

const { minNodes, force, exact } = PlacementRequest.shape;

const Config = InstanceConfig.extend({ samplingDefaults: SamplingParams.strict().optional() })
  .strict();

/** A node by its id, its friendly name or the beginning of one. */
const nodeName = z.string().min(1).max(256);

const nodeNames = z.array(nodeName).max(NODES_MAX).optional();

/** What may be said of a placement, as requests spell it (spec §4). */
export const PLACEMENT_FIELDS = {
  model_id: z.string().min(1),
  sharding: Sharding.default("Pipeline"),
  instance_meta: InstanceMeta.default("MlxRing"),
  min_nodes: minNodes,
  node_ids: nodeNames,
  exact,
  excluded_node_ids: nodeNames,
  prefer: Preference.default("smallest"),
  node_layers: z.record(nodeName, z.number().int().min(1)).optional(),
  memory_limits: z.record(nodeName, z.number().int().min(0)).optional(),
  force,
  config: Config.optional(),
};

/** The fields as they are read. */
export type PlacementFields = z.output<z.ZodObject<typeof PLACEMENT_FIELDS>>;

/** Values that the fields may well hold, for hints. */
export const PLACEMENT_EXAMPLES = {
  model_id: "MODEL",
  node_ids: ["NODE_ID"],
  excluded_node_ids: ["NODE_ID"],
  node_layers: { NODE_ID: 12 },
  memory_limits: { NODE_ID: 8_589_934_592 },
  config: { contextTokens: 4_096 },
  "config.samplingDefaults": { temperature: 0 },
};

/**
 * The fields as the core knows them, nodes by their ids.
 * @throws {AppError} `invalid_request` for a name that no node has, or that several have.
 */
export function placementRequest(
  fields: PlacementFields,
  modelId: ModelId,
  nodes: readonly NamedNode[],
): PlacementRequest {
  const ids = (key: "node_ids" | "excluded_node_ids") =>
    fields[key] && idsOf(nodes, key, fields[key]);
  const table = (key: "node_layers" | "memory_limits") =>
    fields[key] && byId(nodes, key, fields[key]);
  return PlacementRequest.parse(present({
    modelId,
    sharding: fields.sharding,
    instanceMeta: fields.instance_meta,
    minNodes: fields.min_nodes,
    nodeIds: ids("node_ids"),
    exact: fields.exact,
    excludedNodeIds: ids("excluded_node_ids"),
    prefer: fields.prefer,
    nodeLayers: table("node_layers"),
    memoryLimits: table("memory_limits"),
    force: fields.force,
    config: fields.config,
  }));
}

/**
 * The fields as this node asks for them: at the ports that its user allows.
 * @throws {AppError} as `placementRequest` does.
 */
export function requestOf(
  gateway: Pick<Gateway, "state" | "ringPorts">,
  fields: PlacementFields,
  modelId: ModelId,
): PlacementRequest {
  const { ringPorts } = gateway;
  const request = placementRequest(fields, modelId, namedNodes(gateway.state()));
  return ringPorts ? { ...request, ringPorts } : request;
}

/** Each node once, in the order in which they are named first. */
function idsOf(nodes: readonly NamedNode[], param: string, names: readonly string[]): NodeId[] {
  return [...new Set(names.map((name) => found(nodes, param, name)))];
}

function byId(
  nodes: readonly NamedNode[],
  param: string,
  table: Readonly<Record<string, number>>,
): Record<NodeId, number> {
  const values = new Map<NodeId, number>();
  for (const [name, value] of Object.entries(table)) {
    const nodeId = found(nodes, param, name);
    if (values.has(nodeId)) {
      const message = `Cannot read "${param}": found node ${nodeId} twice, each node once needed`;
      throw new AppError("invalid_request", message, { param, hint: `leave "${name}" out` });
    }
    values.set(nodeId, value);
  }
  return Object.fromEntries(values);
}

function found(nodes: readonly NamedNode[], param: string, name: string): NodeId {
  try {
    return findNode(nodes, name);
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    throw new AppError(cause.code, cause.message, { param, hint: cause.hint, cause });
  }
}

/** An object without the keys that hold nothing. */
function present(fields: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/**
 * A body as the schemas read it: `null` is as good as absent, and `config` has either casing
 * (spec §4); messages name its fields in ours.
 */
export function normalBody(json: unknown): unknown {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return json;
  const told = Object.entries(json).filter(([, value]) => value !== null);
  return Object.fromEntries(
    told.map(([key, value]) => [key, key === "config" ? camelKeys(value) : value]),
  );
}

/** `snake_case` keys as camelCase, at every depth. */
function camelKeys(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      camelKeys(inner),
    ]),
  );
}

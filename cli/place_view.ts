import { z } from "zod";
import type { PreviewView } from "../api/client_placement.ts";
import { InstanceMeta, Sharding } from "../core/instance.ts";

const kind = {
  sharding: Sharding.describe("How layers are divided"),
  instanceMeta: InstanceMeta.describe("How the ranks talk to each other"),
};
const nodeIds = z.array(z.string()).readonly();
const bytes = z.number().int();

const PlacementJson = z.strictObject({
  ...kind,
  nodeIds: nodeIds.describe("Nodes, by rank"),
  shards: z.array(z.strictObject({
    nodeId: z.string().describe("Node that has it"),
    startLayer: z.number().int().describe("First layer"),
    endLayer: z.number().int().describe("Layer after the last"),
    deviceRank: z.number().int().describe("Rank"),
  })).readonly().describe("What each node has, by rank"),
  memoryBytesByNode: z.record(z.string(), bytes).readonly()
    .describe("Weights, and KV for the context, of each node"),
  contextTokens: z.number().int().describe("Tokens for which KV is reserved in that"),
  shortages: z.array(z.strictObject({
    nodeId: z.string().describe("Node that has too little"),
    neededBytes: bytes.describe("What it would give"),
    freeBytes: bytes.describe("What it has free"),
  })).readonly().optional().describe("What is lacking, with --force"),
});

const RejectedJson = z.strictObject({
  reason: z.string().describe("Why not"),
  nodeIds: nodeIds.describe("Nodes that cannot take it, alone or together"),
  ...kind,
});

/** Where a model could go, best first, and why not elsewhere. */
export const PreviewsJson = z.strictObject({
  placements: z.array(PlacementJson).readonly().describe("Possible placements, the best first"),
  rejected: z.array(RejectedJson).readonly().describe("What is not possible"),
});
export type PreviewsJson = z.infer<typeof PreviewsJson>;
type PlacementJson = z.infer<typeof PlacementJson>;

/** Previews with what people call the nodes. */
export interface Previews {
  readonly json: PreviewsJson;
  readonly names: ReadonlyMap<string, string>;
}

/** A possible placement as `--json` shows it; shortages only where there are some. */
export function placementJson(
  { shortages = [], ...placement }: PlacementJson,
): PlacementJson {
  return { ...placement, ...(shortages.length > 0 ? { shortages } : {}) };
}

/** The previews of a node as the command tells of them. */
export function previewsOf(
  previews: readonly PreviewView[],
  names: ReadonlyMap<string, string>,
): Previews {
  const placements = previews.flatMap((preview) => {
    if (!preview.instance || !preview.memory_delta_by_node) return [];
    return [placementJson({
      sharding: Sharding.parse(preview.sharding),
      instanceMeta: InstanceMeta.parse(preview.instance_meta),
      nodeIds: preview.node_ids,
      shards: preview.shards ?? [],
      memoryBytesByNode: preview.memory_delta_by_node,
      contextTokens: preview.context_tokens ?? 0,
      shortages: preview.shortages,
    })];
  });
  const rejected = previews.flatMap(({ error, node_ids: nodeIds, sharding, instance_meta }) => {
    if (error === null) return [];
    const kind = {
      sharding: Sharding.parse(sharding),
      instanceMeta: InstanceMeta.parse(instance_meta),
    };
    return [{ reason: error, nodeIds, ...kind }];
  });
  return { json: { placements, rejected }, names };
}

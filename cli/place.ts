import { z } from "zod";
import type { ApiClient } from "../api/client.ts";
import type { PlaceInput } from "../api/client_placement.ts";
import { listed } from "../core/listed.ts";
import { formatBytes } from "../core/units.ts";
import { defineCommand } from "./command.ts";
import { distinctNames } from "./node_names.ts";
import { table } from "./output.ts";
import { placementInput, PREVIEW_FLAGS } from "./placement_flags.ts";
import { previewsOnPaper } from "./place_on_paper.ts";
import { type Previews, PreviewsJson, previewsOf } from "./place_view.ts";
import { suggesting } from "./suggest.ts";

/** `exo place`. */
export const place = defineCommand({
  name: "place",
  summary: "Show where a model could go, and why not elsewhere",
  description: "Creates nothing; exits with 1 when there is no place. With --topology it asks no " +
    'node: the file holds {"nodes": [{"id", "memoryAvailableBytes"}], ' +
    '"links": [{"source", "sink", "address", "kind"}]}, ' +
    "where kind is socket, one way, or rdma, a cable, for which its nodes have RDMA switched on; " +
    "nodes may also have friendlyName, backends and memoryBandwidthBytesPerSecond, links " +
    "bandwidthBitsPerSecond, latencyMs, sourceIface and sinkIface",
  example: [
    "place smollm2",
    "place smollm2 --min-nodes 1 --prefer latency --context 4096 --json",
    "place mlx-community/Llama-3.2-1B-Instruct-4bit --topology topology.json",
  ],
  positionals: ["model"],
  args: z.object({
    model: z.string().min(1).describe("Model id, or a prefix that no other model shares"),
    topology: z.string().min(1).optional().meta({ value: "FILE" })
      .describe("JSON file that describes a cluster: its nodes, and the links between them"),
    ...PREVIEW_FLAGS,
  }),
  json: PreviewsJson,
  async run({ args, client, out, io }) {
    const { topology } = args;
    const input = placementInput(args.model, args);
    const previews = topology === undefined
      ? await previewsOfCluster(client, input)
      : await previewsOnPaper(input, topology, io);
    const { placements } = previews.json;
    if (placements.length === 0) out.note(`No place for ${args.model}`);
    out.result(previews.json, words(previews));
    return placements.length === 0 ? 1 : 0;
  },
});

async function previewsOfCluster(client: ApiClient, input: PlaceInput): Promise<Previews> {
  const previews = await suggesting(client, input.model, client.previews(input));
  const { nodeIdentities } = await client.state();
  const names = Object.entries(nodeIdentities).map(([id, { friendlyName }]) =>
    [id, friendlyName] as const
  );
  return previewsOf(previews, new Map(names));
}

function words({ json: { placements, rejected }, names }: Previews): string {
  const distinct = distinctNames(names);
  const name = (nodeId: string) => distinct.get(nodeId) ?? nodeId;
  const rows = placements.map((placement, rank) => [
    `${rank + 1}`,
    placement.sharding,
    placement.instanceMeta,
    placement.shards.map(({ nodeId, startLayer, endLayer }) => {
      const bytes = formatBytes(placement.memoryBytesByNode[nodeId] ?? 0);
      return `${name(nodeId)} ${startLayer}-${endLayer} (${bytes})`;
    }).join(", "),
    `${placement.contextTokens}`,
  ]);
  const head = ["", "SHARDING", "TRANSPORT", "NODES, LAYERS AND MEMORY", "CONTEXT"];
  const reasons = Array.from(
    Map.groupBy(rejected, (one) => [one.sharding, one.instanceMeta, one.reason].join("\n"))
      .values(),
    ([first, ...others]) => first ? refusedWords(first, others.length, name) : [],
  );
  return [
    ...(rows.length > 0 ? [table(head, rows)] : []),
    ...(reasons.length > 0 ? [table(["SHARDING", "TRANSPORT", "NOT ON", "REASON"], reasons)] : []),
  ].join("\n\n");
}

/** A row for all choices of nodes that were rejected for the same reason, the first of them. */
function refusedWords(
  { reason, nodeIds, sharding, instanceMeta }: PreviewsJson["rejected"][number],
  others: number,
  name: (nodeId: string) => string,
): string[] {
  const more = others === 0 ? "" : `; and ${others} more`;
  const notOn = nodeIds.length === 0 ? "-" : listed(nodeIds.map(name), ", ");
  return [sharding, instanceMeta, `${notOn}${more}`, reason];
}

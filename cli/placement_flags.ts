import { z } from "zod";
import type { PlaceInput } from "../api/client_placement.ts";
import { AppError } from "../core/errors.ts";
import { PlacementRequest, Preference } from "../core/placement_request.ts";
import { parseBytes } from "../core/units.ts";
import { CONFIG_FLAGS, configOf } from "./instance_config.ts";

const { shape } = PlacementRequest;
const group = "Where it may go:";

const SHARDING = { pipeline: "Pipeline", tensor: "Tensor" } as const;
const TRANSPORT = { ring: "MlxRing", jaccl: "MlxJaccl" } as const;

const sharding = z.enum(["pipeline", "tensor"]);
const transport = z.enum(["ring", "jaccl"]);
const SHARDING_MEANS = "How layers are divided over nodes: whole ones, or a part of each";
const TRANSPORT_MEANS = "How the ranks talk to each other: over sockets, or over RDMA";

const nodes = z.array(z.string().min(1)).default([]);

/** What may be said of a placement, as flags. */
export const PLACEMENT_FLAGS = {
  node: nodes.meta({ group, value: "NODE" })
    .describe("Node that it must contain, by id, name or the beginning of one; may be repeated"),
  exact: z.boolean().default(false).meta({ group })
    .describe("Contain no node but those of --node"),
  exclude: nodes.meta({ group, value: "NODE" })
    .describe("Node that it must not contain; may be repeated"),
  minNodes: shape.minNodes.meta({ group }).describe("Fewest nodes to use"),
  sharding: sharding.default("pipeline").meta({ group }).describe(SHARDING_MEANS),
  transport: transport.default("ring").meta({ group }).describe(TRANSPORT_MEANS),
  prefer: Preference.default("smallest").meta({ group })
    .describe("Which of the possible placements is the best"),
  layers: z.string().min(1).optional().meta({ group, value: "NODE=N,..." })
    .describe("Layers of each node, for a pipeline that is divided by hand"),
  memoryLimit: z.array(z.string().min(1)).default([]).meta({ group, value: "NODE=BYTES" })
    .describe("Most memory to take of a node, such as mini=8GiB; may be repeated"),
  force: z.boolean().default(false).meta({ group })
    .describe("Place it although the memory does not suffice by exo's reckoning"),
  ...CONFIG_FLAGS,
};

/** The same flags where absent ones mean that all possibilities are shown. */
export const PREVIEW_FLAGS = {
  ...PLACEMENT_FLAGS,
  sharding: sharding.optional().meta({ group }).describe(SHARDING_MEANS),
  transport: transport.optional().meta({ group }).describe(TRANSPORT_MEANS),
};

/** What the flags are read as. */
export type PlacementArgs = z.output<z.ZodObject<typeof PREVIEW_FLAGS>>;

/**
 * The flags as the API's client takes them.
 * @throws {AppError} `usage` for a table that cannot be read.
 */
export function placementInput(model: string, args: PlacementArgs): PlaceInput {
  const limits = table("--memory-limit", args.memoryLimit, BYTES);
  return {
    model,
    sharding: args.sharding && SHARDING[args.sharding],
    instanceMeta: args.transport && TRANSPORT[args.transport],
    minNodes: args.minNodes,
    nodeIds: args.node.length > 0 ? args.node : undefined,
    exact: args.exact || undefined,
    excludedNodeIds: args.exclude.length > 0 ? args.exclude : undefined,
    prefer: args.prefer,
    nodeLayers: args.layers === undefined
      ? undefined
      : table("--layers", args.layers.split(","), COUNT),
    memoryLimits: limits,
    force: args.force || undefined,
    config: configOf(args),
  };
}

/** How the values of a table are read. */
interface Values {
  read(text: string): number | undefined;
  readonly needed: string;
}

const COUNT: Values = {
  read: (text) => /^[1-9]\d{0,5}$/.test(text) ? Number(text) : undefined,
  needed: "NODE=N with a whole number of layers, such as mini=12,studio=20",
};

const BYTES: Values = {
  read: parseBytes,
  needed: "NODE=BYTES, such as mini=8GiB or mini=8589934592",
};

function table(
  flag: string,
  entries: readonly string[],
  { read, needed }: Values,
): Record<string, number> | undefined {
  const values = new Map<string, number>();
  for (const entry of entries) {
    const at = entry.lastIndexOf("=");
    const name = entry.slice(0, Math.max(0, at)).trim();
    const value = read(entry.slice(at + 1).trim());
    const isTwice = values.has(name);
    if (name === "" || value === undefined || isTwice) {
      const found = isTwice ? `"${name}" twice, each node once` : `"${entry}": ${needed}`;
      throw new AppError("usage", `Cannot use ${flag} ${found} needed`);
    }
    values.set(name, value);
  }
  return values.size === 0 ? undefined : Object.fromEntries(values);
}

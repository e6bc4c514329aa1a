import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { LIBP2P_PORT, PORT_MAX, PortRange, RANGE_PORT_MIN } from "../core/ports.ts";
import { bootstrapMultiaddr } from "../net/bootstrap_address.ts";
import { NAMESPACE_DEFAULT, NAMESPACE_FORM } from "../net/namespace.ts";
import { readClusterSecret } from "./cluster_secret_file.ts";
import type { Io } from "./io.ts";

const GROUP = "Other nodes:";

/** Most addresses that one node is told to look at. */
const BOOTSTRAP_MAX = 64;

/** How a node finds others, and who may find it: flags of whatever starts one. */
export const NETWORK_FLAGS = {
  bootstrap: z.array(z.string().min(1)).max(BOOTSTRAP_MAX).default([])
    .describe("Where another node listens, host:port or a multiaddr; may be repeated")
    .meta({ value: "ADDR", env: "EXO_BOOTSTRAP", group: GROUP }),
  namespace: z.string()
    .refine((text) => NAMESPACE_FORM.test(text), "up to 63 letters, digits, dots and hyphens")
    .default(NAMESPACE_DEFAULT)
    .describe("Only nodes of the same name find each other")
    .meta({ value: "NAME", env: "EXO_LIBP2P_NAMESPACE", group: GROUP }),
  libp2pPort: z.number().int().min(0).max(PORT_MAX).default(LIBP2P_PORT)
    .describe("Port for other nodes, the next free one if it is taken; 0 takes any")
    .meta({ env: "EXO_LIBP2P_PORT", group: GROUP }),
  clusterSecret: z.string().min(1).optional()
    .describe("File with the secret that every node of the cluster must have")
    .meta({ value: "FILE", env: "EXO_CLUSTER_SECRET", group: GROUP }),
  ringPorts: z.string().min(1).optional()
    .describe("Ports at which ranks of one model meet, such as 50000-50063")
    .meta({ value: "A-B", env: "EXO_RING_PORTS", group: GROUP }),
};

/** What the flags hold once they are read. */
export type NetworkFlags = z.output<z.ZodObject<typeof NETWORK_FLAGS>>;

/** How a node takes part in the network. */
export interface NetworkOptions {
  readonly namespace: string;
  /** First port to try; 0: any. */
  readonly port: number;
  /** Multiaddrs. */
  readonly bootstrap: readonly string[];
  readonly privateNetworkKey?: Uint8Array | undefined;
}

/** What the flags ask for, and what is to be said about it. */
export interface Network {
  readonly network: NetworkOptions;
  readonly ringPorts: PortRange | undefined;
  /** What is not as safe as it could be. */
  readonly warnings: readonly string[];
}

/**
 * Reads what the flags name.
 * @throws {AppError} `usage` for an address, a range or a secret that cannot be used.
 */
export async function readNetwork(flags: NetworkFlags, io: Pick<Io, "cwd">): Promise<Network> {
  const { namespace, libp2pPort: port, clusterSecret } = flags;
  const ringPorts = flags.ringPorts === undefined ? undefined : portRange(flags.ringPorts);
  const bootstrap = flags.bootstrap.map(bootstrapMultiaddr);
  const open = { namespace, port, bootstrap };
  if (clusterSecret === undefined) return { network: open, ringPorts, warnings: [] };
  const { key, warnings } = await readClusterSecret(clusterSecret, io.cwd);
  return { network: { ...open, privateNetworkKey: key }, ringPorts, warnings };
}

/** What users of a node without a secret should know. */
export function openToAll({ namespace }: Pick<NetworkOptions, "namespace">): string {
  return `any machine that reaches this one may join the cluster "${namespace}"; to keep others ` +
    "out, start every node with --cluster-secret FILE (exo cluster secret new makes one)";
}

/** What users of a node should know whom nobody answers that they have named. */
export function unanswered(bootstrap: readonly string[]): string {
  return `no other node answers at ${
    bootstrap.join(" or ")
  } so far: see that one runs there, with the ` +
    "same namespace and the same secret or none, and that no firewall is between; it is tried again";
}

/** @throws {AppError} `usage` for what is no range. */
function portRange(text: string): PortRange {
  const { from, to } = /^(?<from>\d{1,5})-(?<to>\d{1,5})$/.exec(text)?.groups ?? {};
  const read = PortRange.safeParse({ from: Number(from), to: Number(to) });
  if (read.success) return read.data;
  const needed = `A-B needed, the lower first, both from ${RANGE_PORT_MIN} to ${PORT_MAX}`;
  throw new AppError("usage", `Cannot use --ring-ports "${text}": ${needed}`, {
    hint: "leave it out for any free port, or open some for it: --ring-ports 50000-50063",
    param: "ringPorts",
  });
}

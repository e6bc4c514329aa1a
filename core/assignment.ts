import { coordinatorIps, type Hop, type Network, ringHop } from "./addresses.ts";
import { type InstanceId, type MetaInstanceId, type NodeId, runnerIdOf } from "./ids.ts";
import type { Host, Instance, InstanceConfig, Shard } from "./instance.ts";
import { hostPort } from "./multiaddr.ts";
import { freePort, type PortRange, rankPorts } from "./ports.ts";
import { deviceMatrix } from "./rdma_links.ts";

/** Stands for ranks that a rank of a ring never talks to (TEST-NET-2, RFC 5737). */
export const PLACEHOLDER_HOST: Host = { ip: "198.51.100.1", port: 0 };

/** What an instance is made of. */
export interface Assignment {
  readonly instanceId: InstanceId;
  readonly metaInstanceId?: MetaInstanceId | undefined;
  readonly config?: InstanceConfig | undefined;
  /** By rank. */
  readonly nodeIds: readonly NodeId[];
  readonly shards: readonly Shard[];
  readonly network: Network;
  /** Ports that other instances have. */
  readonly usedPorts: ReadonlySet<number>;
  /** Where its own are taken from; absent: from the usual ones. */
  readonly ports?: PortRange | undefined;
}

/** An instance whose ranks talk over sockets; undefined where neighbours have no link. */
export function ringInstance(assignment: Assignment): Instance | undefined {
  const common = commonFields(assignment);
  const { nodeIds } = assignment;
  if (nodeIds.length === 1) return { type: "MlxRingInstance", ...common, hostsByNode: {} };
  const ring = ringHosts(assignment);
  if (!ring) return undefined;
  const { hosts, ephemeralPort } = ring;
  const hostsByNode = Object.fromEntries(nodeIds.map((nodeId, rank) => [nodeId, hosts[rank]]));
  return { type: "MlxRingInstance", ...common, hostsByNode, ephemeralPort } as Instance;
}

/** An instance whose ranks talk over RDMA; undefined without a cable between all of them. */
export function jacclInstance(assignment: Assignment): Instance | undefined {
  const { instanceId, nodeIds, usedPorts, ports, network } = assignment;
  const jacclDevices = deviceMatrix(network, nodeIds);
  const ips = coordinatorIps(network, nodeIds);
  if (!jacclDevices || !ips) return undefined;
  const port = freePort(instanceId, usedPorts, ports);
  const jacclCoordinators = Object.fromEntries(
    nodeIds.map((nodeId, rank) => [nodeId, hostPort(ips[rank] as string, port)]),
  );
  return {
    type: "MlxJacclInstance",
    ...commonFields(assignment),
    jacclDevices,
    jacclCoordinators,
  };
}

function commonFields(assignment: Assignment) {
  const { instanceId, metaInstanceId, config, nodeIds, shards, ports } = assignment;
  const [first] = shards as readonly [Shard];
  const runnerIds = nodeIds.map((_, rank) => runnerIdOf(instanceId, rank));
  return {
    instanceId,
    shardAssignments: {
      modelId: first.modelCard.modelId,
      runnerToShard: Object.fromEntries(runnerIds.map((id, rank) => [id, shards[rank] as Shard])),
      nodeToRunner: Object.fromEntries(nodeIds.map((id, rank) => [id, runnerIds[rank]])),
    } as Instance["shardAssignments"],
    ...(metaInstanceId ? { metaInstanceId } : {}),
    ...(config ? { config } : {}),
    ...(ports && nodeIds.length > 1 ? { portRange: ports } : {}),
  };
}

/**
 * The hosts of all ranks as each rank sees them. A rank listens for its left neighbour at its own
 * address on the link between them, and connects to its right; both ends of a hop name the same
 * two addresses. Ranks that share an address, those of one host, have ports of their own.
 */
function ringHosts(
  { nodeIds, network, usedPorts, ports, instanceId }: Assignment,
): { readonly hosts: Host[][]; readonly ephemeralPort: number | undefined } | undefined {
  const count = nodeIds.length;
  const left = (rank: number) => (rank + count - 1) % count;
  const hops: Hop[] = [];
  for (const [rank, nodeId] of nodeIds.entries()) {
    const hop = ringHop(network, nodeIds[left(rank)] as NodeId, nodeId);
    if (!hop) return undefined;
    hops.push(hop);
  }
  const ips = hops.map(({ sinkIp }) => sinkIp);
  const own = rankPorts(ips, { seed: instanceId, used: usedPorts, range: ports })
    .map((port, rank): Host => ({ ip: ips[rank] as string, port }));
  const hosts = nodeIds.map((_, rank) =>
    own.map((host, other) => {
      if (other === rank || other === (rank + 1) % count) return host;
      if (other !== left(rank)) return PLACEHOLDER_HOST;
      const ip = hops[rank]?.sourceIp;
      return ip === undefined ? PLACEHOLDER_HOST : { ip, port: host.port };
    })
  );
  return { hosts, ephemeralPort: own[0]?.port };
}

import { coordinatorIps, type Network, ringHops } from "./addresses.ts";
import { type InstanceId, type MetaInstanceId, type NodeId, runnerIdOf } from "./ids.ts";
import type { Host, Instance, InstanceConfig, InstanceMeta, Shard } from "./instance.ts";
import { hostPort } from "./multiaddr.ts";
import { type PortRange, rankPorts } from "./ports.ts";
import { hostTable } from "./rank_addresses.ts";
import { deviceMatrix } from "./rdma_links.ts";

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

/** An instance whose ranks talk over sockets; undefined where they have no link, or no port. */
export function ringInstance(assignment: Assignment): Instance | undefined {
  const common = commonFields(assignment);
  const { nodeIds } = assignment;
  if (nodeIds.length === 1) return { type: "MlxRingInstance", ...common, hostsByNode: {} };
  const ring = ringHosts(assignment);
  return ring && { type: "MlxRingInstance", ...common, ...ring };
}

/**
 * An instance whose ranks sum over RDMA, beside a ring for their frames; undefined without a cable
 * between all of them, where neighbours have no other link, or without ports.
 */
export function jacclInstance(assignment: Assignment): Instance | undefined {
  const { instanceId, nodeIds, usedPorts, ports, network } = assignment;
  const jacclDevices = deviceMatrix(network, nodeIds);
  const ips = coordinatorIps(network, nodeIds);
  const ring = ringHosts(assignment);
  const source = { seed: instanceId, used: usedPorts, range: ports };
  const port = rankPorts(listeningIps(network, nodeIds, "MlxJaccl"), source)?.at(-1);
  if (!jacclDevices || !ips || !ring || port === undefined) return undefined;
  const { hostsByNode } = ring;
  const jacclCoordinators = Object.fromEntries(
    nodeIds.map((nodeId, rank) => [nodeId, hostPort(ips[rank] as string, port)]),
  );
  return {
    type: "MlxJacclInstance",
    ...commonFields(assignment),
    jacclDevices,
    jacclCoordinators,
    hostsByNode,
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

/** The tables of a ring: ranks that share an address, those of one host, have ports of their own. */
function ringHosts(
  { nodeIds, network, usedPorts, ports, instanceId }: Assignment,
): { readonly hostsByNode: Record<NodeId, Host[]>; readonly ephemeralPort: number } | undefined {
  const hops = ringHops(network, nodeIds);
  const ips = hops?.map(({ sinkIp }) => sinkIp) ?? [];
  const own = rankPorts(ips, { seed: instanceId, used: usedPorts, range: ports });
  if (!hops || !own) return undefined;
  return { hostsByNode: hostTable(nodeIds, hops, own), ephemeralPort: own[0] as number };
}

/**
 * The addresses at which ranks on these nodes would listen, by rank; over RDMA the first one's once
 * more, for its coordinator.
 */
export function listeningIps(
  network: Network,
  nodeIds: readonly NodeId[],
  instanceMeta: InstanceMeta,
): string[] {
  const ips = ringHops(network, nodeIds)?.map(({ sinkIp }) => sinkIp) ?? [];
  return instanceMeta === "MlxJaccl" ? [...ips, ...ips.slice(0, 1)] : ips;
}

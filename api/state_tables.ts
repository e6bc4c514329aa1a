import type { Connections, Edge } from "../core/connection.ts";
import type { DownloadStatus } from "../core/download.ts";
import { instanceStats } from "../core/engine_stats.ts";
import type { ModelId, NodeId } from "../core/ids.ts";
import { parseMultiaddr } from "../core/multiaddr.ts";
import type { NodeState } from "../core/node_info.ts";
import type { RunnerState } from "../core/runner_status.ts";
import {
  linkKey,
  type NodeDisk,
  type NodeMemory,
  type NodeSystem,
  type Telemetry,
} from "../core/telemetry.ts";
import { thunderboltBridgeCycles } from "../core/thunderbolt_bridge.ts";
import { externalTags, fromEntries, type Json } from "./encode_state.ts";
import type { Gateway } from "./gateway.ts";
import { encodeMetaInstance } from "./meta_instance_view.ts";

/**
 * The tables of `GET /state`, each made only when it is asked for (spec §3). Latest values, which
 * the log does not hold, are joined in here.
 */
export function stateTables(gateway: Gateway): Readonly<Record<string, () => Json>> {
  const state = gateway.state();
  const nodes = [...state.nodes];
  const ofNodes = (value: (node: NodeState) => unknown) => () =>
    fromEntries(nodes.map(([nodeId, node]) => [nodeId, value(node)]));
  return {
    lastEventAppliedIdx: () => state.lastEventAppliedIdx,
    session: () => {
      const epoch = gateway.epoch();
      return epoch ? { masterNodeId: epoch.nodeId, epoch: epoch.clock } : null;
    },
    lastSeen: () => fromEntries(nodes.map(([nodeId]) => [nodeId, lastSeen(gateway, nodeId)])),
    instances: () => externalTags(state.instances),
    instanceRetries: () => externalTags(state.instanceRetries),
    instanceStats: () => {
      const stats = gateway.engineStats();
      const instances = [...state.instances];
      return fromEntries(instances.map(([id, instance]) => [id, instanceStats(instance, stats)]));
    },
    runners: () => fromEntries([...state.runners].map(([id, runner]) => [id, runnerOf(runner)])),
    prefillTokensPerSecond: () =>
      fromEntries([...state.runners].map(([id, runner]) => [id, runner.prefillTokensPerSecond])),
    metaInstances: () =>
      fromEntries(
        [...state.metaInstances].map(([id, one]) => [id, encodeMetaInstance(state, one)]),
      ),
    instanceLinks: () => externalTags(state.instanceLinks),
    tasks: () => externalTags(state.tasks),
    downloads: () =>
      fromEntries([...state.downloads].map(([id, models]) => [id, downloadsOf(id, models)])),
    topology: () => ({
      nodes: nodes.map(([nodeId]) => nodeId),
      connections: encodeConnections(state.connections, gateway.telemetry()),
    }),
    thunderboltBridgeCycles: () => thunderboltBridgeCycles(state),
    nodeIdentities: ofNodes(({ incarnation, info }) => {
      const { backends: _, machineModel: modelId, ...identity } = info;
      return { modelId, ...identity, incarnation };
    }),
    nodeBackends: ofNodes(({ info }) => info.backends),
    nodeNetwork: ofNodes(({ network }) => ({ interfaces: network })),
    nodeThunderbolt: ofNodes(({ thunderbolt }) => ({ interfaces: thunderbolt })),
    nodeThunderboltBridge: ofNodes(({ thunderboltBridge }) => thunderboltBridge),
    nodeRdmaCtl: ofNodes(({ rdmaCtlEnabled: enabled }) =>
      enabled === undefined ? undefined : { enabled }
    ),
    nodeMemory: () =>
      fromEntries(
        [...gateway.telemetry().memory].map(([nodeId, memory]) => [nodeId, memoryOf(memory)]),
      ),
    nodeDisk: () =>
      fromEntries([...gateway.telemetry().disk].map(([nodeId, disk]) => [nodeId, diskOf(disk)])),
    nodeSystem: () =>
      fromEntries(
        [...gateway.telemetry().system].map(([nodeId, system]) => [nodeId, systemOf(system)]),
      ),
    customModelCards: () => externalTags(state.customModelCards),
  };
}

/** When this node heard of another last, as a date; of itself, now. */
function lastSeen(gateway: Gateway, nodeId: NodeId): string | undefined {
  const [now, uptime] = [gateway.now(), gateway.uptime()];
  const seen = nodeId === gateway.nodeId ? uptime : gateway.telemetry().lastSeen.get(nodeId);
  return seen === undefined ? undefined : new Date(now - (uptime - seen)).toISOString();
}

/** Source to sink to edges, each with how good it is as far as that was measured. */
function encodeConnections(connections: Connections, { links }: Telemetry): Json {
  return fromEntries(
    [...connections].map(([source, sinks]) => [
      source,
      fromEntries([...sinks].map(([sink, edges]) => [
        sink,
        edges.map((edge) => ({ ...encodeEdge(edge), ...links.get(linkKey(source, sink, edge)) })),
      ])),
    ]),
  );
}

/** Edges have no tag: their kinds are told by their fields (spec §3). */
function encodeEdge(edge: Edge): object {
  if (edge.type === "SocketConnection") {
    return { sinkMultiaddr: encodeMultiaddr(edge.sinkMultiaddr) };
  }
  const { sourceRdmaIface, sinkRdmaIface } = edge;
  return { sourceRdmaIface, sinkRdmaIface };
}

/** A multiaddr with its parts, as far as it can be read (spec §3). */
function encodeMultiaddr(address: string): Json {
  const parsed = parseMultiaddr(address);
  if (!parsed) return { address };
  const { addressType: address_type, host: ip_address, port } = parsed;
  return { address, address_type, ip_address, ...(port === undefined ? {} : { port }) };
}

function runnerOf({ status, incarnation, since }: RunnerState): object {
  return { ...status, incarnation, since };
}

function downloadsOf(nodeId: NodeId, models: ReadonlyMap<ModelId, DownloadStatus>): object[] {
  return [...models].map(([modelId, status]) => {
    if (status.type !== "DownloadCompleted") return { ...status, nodeId, modelId };
    const { type, totalBytes, readOnly } = status;
    return { type, nodeId, modelId, total: { inBytes: totalBytes }, readOnly };
  });
}

/** The spec's four, and ours: the memory of a GPU that has its own. */
function memoryOf(memory: NodeMemory): Json {
  return inBytes({
    ramTotal: memory.ramTotalBytes,
    ramAvailable: memory.ramAvailableBytes,
    swapTotal: memory.swapTotalBytes,
    swapAvailable: memory.swapAvailableBytes,
    gpuTotal: memory.gpu?.totalBytes,
    gpuAvailable: memory.gpu?.availableBytes,
  });
}

function diskOf({ totalBytes, availableBytes }: NodeDisk): Json {
  return inBytes({ total: totalBytes, available: availableBytes });
}

/**
 * The spec's five, and `cpuUsage`, ours: of all cores. Where all are of one kind they are
 * performance cores. What a machine does not tell is left out.
 */
function systemOf(system: NodeSystem): Json {
  return fromEntries(Object.entries({
    gpuUsage: system.gpuUsage,
    temp: system.gpuTemperatureCelsius ?? system.cpuTemperatureCelsius,
    sysPower: system.powerWatts,
    pcpuUsage: system.performanceCoreUsage ?? system.cpuUsage,
    ecpuUsage: system.efficiencyCoreUsage,
    cpuUsage: system.cpuUsage,
  }));
}

function inBytes(values: Readonly<Record<string, number | undefined>>): Json {
  return fromEntries(
    Object.entries(values).map((
      [name, bytes],
    ) => [name, bytes === undefined ? undefined : { inBytes: bytes }]),
  );
}

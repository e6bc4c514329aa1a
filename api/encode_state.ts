import type { Connections, Edge } from "../core/connection.ts";
import type { DownloadStatus } from "../core/download.ts";
import { instanceStats } from "../core/engine_stats.ts";
import type { Instance } from "../core/instance.ts";
import type { ModelId, NodeId } from "../core/ids.ts";
import type { NodeMemory } from "../core/telemetry.ts";
import type { NodeState } from "../core/node_info.ts";
import type { RunnerState } from "../core/runner_status.ts";
import type { Gateway } from "./gateway.ts";

/** JSON as the outside knows it. */
export type Json = null | boolean | number | string | readonly Json[] | {
  readonly [key: string]: Json;
};

/**
 * A value of ours with external tags: an object with a string `type` becomes one key, that type,
 * around the rest. Tables become objects; fields keep their camelCase (spec §1.1).
 */
export function externalTags(value: unknown): Json {
  if (value instanceof Map) return fromEntries(value.entries());
  if (Array.isArray(value)) return value.map(externalTags);
  if (typeof value !== "object" || value === null) return value as Json;
  const { type, ...rest } = value as Record<string, unknown>;
  if (typeof type === "string") return { [type]: fromEntries(Object.entries(rest)) };
  return fromEntries(Object.entries(value));
}

/** The reverse for one object: `{Tag: {…}}` becomes `{type: "Tag", …}`, at every depth. */
export function internalTags(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(internalTags);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  const [only] = entries;
  if (only && entries.length === 1 && isTag(only[0]) && isRecord(only[1])) {
    return { type: only[0], ...mapped(Object.entries(only[1])) };
  }
  return mapped(entries);
}

/** An instance as `/instance`, `/state` and `/instance/await` show it. */
export function encodeInstance(instance: Instance): Json {
  return externalTags(instance);
}

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
    instances: () => externalTags(state.instances),
    instanceRetries: () => externalTags(state.instanceRetries),
    instanceStats: () => {
      const stats = gateway.engineStats();
      const instances = [...state.instances];
      return fromEntries(instances.map(([id, instance]) => [id, instanceStats(instance, stats)]));
    },
    runners: () => fromEntries([...state.runners].map(([id, runner]) => [id, runnerOf(runner)])),
    prefillServerPorts: () =>
      fromEntries([...state.runners].map(([id, runner]) => [id, runner.prefillServerPort])),
    metaInstances: () => externalTags(state.metaInstances),
    instanceLinks: () => externalTags(state.instanceLinks),
    tasks: () => externalTags(state.tasks),
    downloads: () =>
      fromEntries([...state.downloads].map(([id, models]) => [id, downloadsOf(id, models)])),
    topology: () => ({
      nodes: nodes.map(([nodeId]) => nodeId),
      connections: encodeConnections(state.connections),
    }),
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
      fromEntries([...gateway.nodeMemory()].map(([nodeId, memory]) => [nodeId, memoryOf(memory)])),
    customModelCards: () => externalTags(state.customModelCards),
  };
}

function encodeConnections(connections: Connections): Json {
  return fromEntries(
    [...connections].map(([source, sinks]) => [
      source,
      fromEntries([...sinks].map(([sink, edges]) => [sink, edges.map(encodeEdge)])),
    ]),
  );
}

/** Edges have no tag: their kinds are told by their fields (spec §3). */
function encodeEdge(edge: Edge): Json {
  if (edge.type === "SocketConnection") {
    return { sinkMultiaddr: encodeMultiaddr(edge.sinkMultiaddr) };
  }
  const { sourceRdmaIface, sinkRdmaIface } = edge;
  return { sourceRdmaIface, sinkRdmaIface };
}

/** A multiaddr with its parts; only those are told that can be read (spec §3). */
function encodeMultiaddr(address: string): Json {
  const [, address_type, ip_address, , port] =
    /^\/(ip4|ip6|dns|dns4|dns6)\/([^/]+)(\/tcp\/(\d+))?/.exec(address) ?? [];
  return fromEntries(Object.entries({
    address,
    address_type,
    ip_address,
    port: port === undefined ? undefined : Number(port),
  }));
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

function memoryOf({ ramTotalBytes, ramAvailableBytes }: NodeMemory): object {
  return { ramTotal: { inBytes: ramTotalBytes }, ramAvailable: { inBytes: ramAvailableBytes } };
}

function fromEntries(entries: Iterable<readonly [string, unknown]>): Json {
  return Object.fromEntries(
    [...entries].filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key, externalTags(value)]),
  );
}

function mapped(entries: readonly [string, unknown][]): object {
  return Object.fromEntries(entries.map(([key, value]) => [key, internalTags(value)]));
}

/** Tags are `PascalCase`; fields and ids are not. */
function isTag(key: string): boolean {
  return /^[A-Z][A-Za-z]+(Instance|Metadata)$/.test(key);
}

function isRecord(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

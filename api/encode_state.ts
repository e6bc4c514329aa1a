import type { DownloadStatus } from "../core/download.ts";
import { instanceStats } from "../core/engine_stats.ts";
import type { Instance } from "../core/instance.ts";
import type { ModelId, NodeId } from "../core/ids.ts";
import type { NodeMemory } from "../core/telemetry.ts";
import type { RunnerState } from "../core/runner_status.ts";
import { thunderboltBridgeCycles } from "../core/thunderbolt_bridge.ts";
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
    tasks: () => externalTags(state.tasks),
    downloads: () =>
      fromEntries([...state.downloads].map(([id, models]) => [id, downloadsOf(id, models)])),
    topology: () => ({ nodes: nodes.map(([nodeId]) => nodeId), connections: {} }),
    thunderboltBridgeCycles: () => thunderboltBridgeCycles(state),
    nodeIdentities: () =>
      fromEntries(nodes.map(([nodeId, { incarnation, info }]) => {
        const { backends: _, ...identity } = info;
        const unknown = { modelId: "Unknown", osBuildVersion: "Unknown" };
        return [nodeId, { ...unknown, ...identity, incarnation }];
      })),
    nodeBackends: () => fromEntries(nodes.map(([nodeId, { info }]) => [nodeId, info.backends])),
    nodeMemory: () =>
      fromEntries([...gateway.nodeMemory()].map(([nodeId, memory]) => [nodeId, memoryOf(memory)])),
    customModelCards: () => externalTags(state.customModelCards),
  };
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

import type { z } from "zod";
import { apply } from "../../core/apply.ts";
import { PlacementRequest } from "../../core/placement_request.ts";
import type { Event } from "../../core/events.ts";
import {
  CommandId,
  InstanceId,
  MetaInstanceId,
  ModelId,
  NodeId,
  RunnerId,
  TaskId,
} from "../../core/ids.ts";
import type { Instance, InstanceConfig } from "../../core/instance.ts";
import { ModelCard } from "../../core/model_card.ts";
import { NO_TELEMETRY, type NodeMemory, type Telemetry } from "../../core/telemetry.ts";
import type { RunnerStatus } from "../../core/runner_status.ts";
import type { DecideContext } from "../../core/master.ts";
import type { ReconcileContext } from "../../core/reconcile.ts";
import { EMPTY_STATE, type State } from "../../core/state.ts";
import type { Task } from "../../core/task.ts";
import { MIB } from "../../core/units.ts";

export const A = NodeId.parse("node-a");
export const B = NodeId.parse("node-b");
export const C = NodeId.parse("node-c");
export const MODEL = ModelId.parse("local/tiny-0123abcd");

export const instanceId = (id: string) => InstanceId.parse(id);
export const runnerId = (id: string) => RunnerId.parse(id);
export const commandId = (id: string) => CommandId.parse(id);
export const metaInstanceId = (id: string) => MetaInstanceId.parse(id);
export const taskId = (id: string) => TaskId.parse(id);

/** A card with what a test does not care about filled in: 100 MiB, no KV. */
export function cardOf(fields: Partial<z.input<typeof ModelCard>> = {}): ModelCard {
  return ModelCard.parse({
    modelId: MODEL,
    storageSize: { inBytes: 100 * MIB },
    nLayers: 16,
    hiddenSize: 64,
    supportsTensor: false,
    tasks: ["TextGeneration"],
    backends: ["MlxCpu"],
    contextLength: 2_048,
    ...fields,
  });
}

/** What is asked of {@linkcode MODEL}'s placement, with what a test does not care about filled in. */
export function placementOf(fields: Partial<PlacementRequest> = {}): PlacementRequest {
  return PlacementRequest.parse({ modelId: MODEL, ...fields });
}

/** An instance with one rank on each of `nodeIds`; its runners are `<id>:0`, `<id>:1`, … */
export function instanceOf(
  id: string,
  nodeIds: readonly NodeId[] = [A],
  { card = cardOf(), config }: { card?: ModelCard; config?: InstanceConfig } = {},
): Instance {
  const shards = nodeIds.map((_, deviceRank) =>
    [`${id}:${deviceRank}`, {
      type: "PipelineShardMetadata" as const,
      modelCard: card,
      deviceRank,
      worldSize: nodeIds.length,
      startLayer: 0,
      endLayer: card.nLayers,
      nLayers: card.nLayers,
    }] as const
  );
  return {
    type: "MlxRingInstance",
    instanceId: instanceId(id),
    shardAssignments: {
      modelId: card.modelId,
      runnerToShard: Object.fromEntries(shards),
      nodeToRunner: Object.fromEntries(nodeIds.map((nodeId, rank) => [nodeId, `${id}:${rank}`])),
    },
    hostsByNode: {},
    ...(config ? { config } : {}),
  } as Instance;
}

/** The state after these events, one after the other. */
export function fold(events: readonly Event[], state: State = EMPTY_STATE): State {
  return events.reduce(
    (state, event) =>
      apply(state, {
        idx: state.lastEventAppliedIdx + 1,
        epoch: { clock: 1, nodeId: A },
        event,
      }),
    state,
  );
}

export function created(instance: Instance): Event {
  return { type: "InstanceCreated", instance };
}

export function nodeStarted(
  nodeId: NodeId,
  incarnation = 1,
): Extract<Event, { type: "NodeStarted" }> {
  const info = {
    friendlyName: nodeId,
    machineModel: "Unknown",
    chipId: "x86_64",
    osVersion: "linux",
    osBuildVersion: "Unknown",
    exoVersion: "0",
    backends: ["MlxCpu" as const],
  };
  return { type: "NodeStarted", nodeId, incarnation, info };
}

/** A status by its name, with the fields that it needs. */
export function statusOf(type: RunnerStatus["type"], reason = "OOM"): RunnerStatus {
  if (type === "RunnerFailed") return { type, reason, diagnostics: [] };
  if (type === "RunnerLoading") return { type, layersLoaded: 1, totalLayers: 16 };
  return { type };
}

/** A runner's report. */
export function reported(
  id: string,
  type: RunnerStatus["type"],
  { incarnation = 1, at = 0, reason }: { incarnation?: number; at?: number; reason?: string } = {},
): Extract<Event, { type: "RunnerStatusUpdated" }> {
  const status = statusOf(type, reason);
  return { type: "RunnerStatusUpdated", runnerId: runnerId(id), status, incarnation, at };
}

export function taskOf(id: string, instance: string, fields: Partial<Task> = {}): Task {
  return {
    type: "TextGeneration",
    taskId: taskId(id),
    commandId: commandId(id),
    instanceId: instanceId(instance),
    modelId: MODEL,
    apiNodeId: A,
    taskStatus: "Pending",
    ...fields,
  };
}

export function taskCreated(task: Task): Event {
  return { type: "TaskCreated", task };
}

export function downloaded(nodeId: NodeId, modelId: ModelId = MODEL): Event {
  const status = { type: "DownloadCompleted" as const, totalBytes: 1, readOnly: true };
  return { type: "NodeDownloadProgress", nodeId, modelId, status };
}

/** Free memory as all that is known beside the state. */
export function telemetryOf(memory: ReadonlyMap<NodeId, NodeMemory>): Telemetry {
  return { ...NO_TELEMETRY, memory };
}

/** What a decision needs beside the state, when only memory matters. */
export function decideContext(memory: ReadonlyMap<NodeId, NodeMemory>): DecideContext {
  return { telemetry: telemetryOf(memory), now: 0, isHeard: () => true };
}

/** What the reconcilers need beside the state, with what a test does not care about filled in. */
export function reconcileContext(fields: Partial<ReconcileContext> = {}): ReconcileContext {
  return {
    telemetry: NO_TELEMETRY,
    now: 0,
    uptime: 0,
    cards: new Map(),
    freshId: instanceId("fresh"),
    ...fields,
  };
}

/** The same free memory on each of these nodes. */
export function memoryOf(
  freeBytes: number,
  nodeIds: readonly NodeId[] = [A],
  loadedRunners: readonly RunnerId[] = [],
): ReadonlyMap<NodeId, NodeMemory> {
  const memory = { ramTotalBytes: 2 * freeBytes, ramAvailableBytes: freeBytes, loadedRunners };
  return new Map(nodeIds.map((nodeId) => [nodeId, memory]));
}

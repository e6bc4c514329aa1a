import type { Command, CommandReply } from "./commands.ts";
import { AppError, toAppError } from "./errors.ts";
import type { Event } from "./events.ts";
import {
  type InstanceId,
  type MetaInstanceId,
  type ModelId,
  type NodeId,
  type TaskId,
  taskIdOf,
} from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import type { ModelCard } from "./model_card.ts";
import type { Telemetry } from "./telemetry.ts";
import type { Millis } from "./units.ts";
import { misfit, place, placementHint } from "./placement.ts";
import { isServing } from "./runner_status.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";

/** What a decision needs beyond the state. */
export interface DecideContext {
  readonly telemetry: Telemetry;
  readonly now: Millis;
}

/** What a command makes happen, and what the asker may be told beside the index. */
export interface Decision {
  readonly events: readonly Event[];
  readonly instanceId?: InstanceId;
  readonly metaInstanceId?: MetaInstanceId;
}

/**
 * Turns a command into events.
 * @throws {AppError} why the command is rejected; nothing happens then.
 */
export function decide(
  state: State,
  command: Command,
  { telemetry }: DecideContext,
): Decision {
  switch (command.type) {
    case "PlaceInstance":
      return placeInstance(state, command, telemetry);
    case "CreateInstance":
      return createInstance(state, command.instance, telemetry);
    case "DeleteInstance":
      return deleteInstance(state, command.instanceId);
    case "TextGeneration":
    case "ImageGeneration":
    case "ImageEdits":
      return startGeneration(state, command);
    case "TaskCancelled":
      return cancelTask(state, taskIdOf(command.cancelledCommandId));
    case "TaskFinished":
      return finishTask(state, taskIdOf(command.finishedCommandId));
    case "AddCustomModelCard":
      return addModelCard(state, command);
    case "DeleteCustomModelCard":
      return deleteModelCard(state, command.modelId);
    case "SetInstanceLink":
    case "DeleteInstanceLink":
    case "CreateMetaInstance":
    case "DeleteMetaInstance":
    case "RetryMetaInstance":
    case "MergeLineage":
      throw new AppError("unsupported_parameter", `Cannot do ${command.type}`);
    default:
      return command satisfies never;
  }
}

/** The reply to a command that was decided, its events up to `idx` applied. */
export function accepted(command: Command, idx: number, decision: Decision): CommandReply {
  const { commandId } = command;
  const { instanceId, metaInstanceId } = decision;
  return {
    type: "CommandAccepted",
    commandId,
    idx,
    ...(instanceId ? { instanceId } : {}),
    ...(metaInstanceId ? { metaInstanceId } : {}),
  };
}

/** The reply to a command that `decide` refused by throwing `reason`. */
export function rejected(command: Command, reason: unknown): CommandReply {
  const { commandId } = command;
  return { type: "CommandRejected", commandId, error: toAppError(reason).toInfo() };
}

function placeInstance(
  state: State,
  { instanceId, request, modelCard }: Extract<Command, { type: "PlaceInstance" }>,
  telemetry: Telemetry,
): Decision {
  if (state.instances.has(instanceId)) return { events: [], instanceId };
  const card = state.customModelCards.get(request.modelId) ?? modelCard;
  if (!card) throw modelNotFound(state, request.modelId);
  const placed = place(state, telemetry, { instanceId, card, request });
  if (!placed.ok) {
    throw new AppError(placed.code, placed.reason, { hint: placed.hint });
  }
  return { events: [{ type: "InstanceCreated", instance: placed.instance }], instanceId };
}

function createInstance(
  state: State,
  instance: Instance,
  telemetry: Telemetry,
): Decision {
  const { instanceId, shardAssignments } = instance;
  const wanted = `Cannot create instance "${instanceId}"`;
  if (state.instances.has(instanceId)) {
    throw new AppError("conflict", `${wanted}: an instance of that id exists, a new id needed`, {
      hint: `choose another instanceId, or remove that one: exo instance delete ${instanceId}`,
    });
  }
  const nodes = Object.keys(shardAssignments.nodeToRunner);
  const unknown = nodes.find((id) => !state.nodes.has(id as NodeId));
  if (nodes.length === 0 || unknown !== undefined) {
    const found = unknown === undefined ? "it names no node" : `node ${unknown} is not known`;
    throw new AppError("placement_failed", `${wanted}: ${found}, a known node needed`, {
      hint: `known nodes: ${[...state.nodes.keys()].join(", ") || "none"}`,
    });
  }
  if (nodes.length > 1) {
    throw new AppError("placement_failed", `${wanted} on ${nodes.length} nodes, one possible`, {
      hint: `name one node in nodeToRunner, such as ${nodes[0]}`,
    });
  }
  checkShards(instance, wanted);
  const taken = runnersOf(instance).find((id) =>
    state.runners.has(id) ||
    [...state.instances.values()].some((one) => runnersOf(one).includes(id))
  );
  if (taken !== undefined) {
    throw new AppError("conflict", `${wanted}: runner ${taken} exists already, a new id needed`, {
      hint: "choose other runner ids, or let exo choose: exo instance create MODEL",
    });
  }
  const card = state.customModelCards.get(shardAssignments.modelId);
  if (!card) throw modelNotFound(state, shardAssignments.modelId);
  const shards = Object.values(shardAssignments.runnerToShard);
  const wrong = shards.find(({ nLayers }) => nLayers !== card.nLayers);
  if (wrong) {
    const found = `found ${wrong.nLayers} layers, the model has ${card.nLayers}`;
    throw new AppError("invalid_request", `${wanted}: ${found}`, { hint: BY_ITSELF });
  }
  const reason = nodes.map((id) =>
    misfit(state, telemetry, { nodeId: id as NodeId, card, config: instance.config })
  ).find((reason) => reason !== undefined);
  if (reason !== undefined) {
    const asked = { card, nodeIds: nodes as NodeId[], config: instance.config };
    const hint = placementHint(state, telemetry, asked);
    throw new AppError("placement_failed", `${wanted}: ${reason}`, { hint });
  }
  return { events: [{ type: "InstanceCreated", instance: withCard(instance, card) }], instanceId };
}

/** What to do about an instance that was put together wrongly. */
const BY_ITSELF = "let exo put it together: exo instance create MODEL";

/** What a client says of a model counts for nothing beside what the cluster knows. */
function withCard(instance: Instance, modelCard: ModelCard): Instance {
  const { shardAssignments } = instance;
  const shards = Object.entries(shardAssignments.runnerToShard)
    .map(([id, shard]) => [id, { ...shard, modelCard }]);
  const runnerToShard = Object.fromEntries(shards);
  return { ...instance, shardAssignments: { ...shardAssignments, runnerToShard } };
}

/** Whether each node's runner has the whole model, and no runner is without a node. */
function checkShards({ shardAssignments }: Instance, wanted: string): void {
  const { modelId, runnerToShard, nodeToRunner } = shardAssignments;
  const invalid = (found: string) =>
    new AppError("invalid_request", `${wanted}: ${found}`, { hint: BY_ITSELF });
  const bound = Object.values(nodeToRunner);
  for (const runnerId of bound) {
    const shard = runnerToShard[runnerId];
    if (!shard) throw invalid(`runner ${runnerId} has no shard, one needed`);
    const { startLayer, endLayer, nLayers, worldSize, modelCard } = shard;
    if (modelCard.modelId !== modelId) {
      throw invalid(`found shards of ${modelCard.modelId}, ${modelId} needed`);
    }
    if (startLayer !== 0 || endLayer !== nLayers || worldSize !== 1) {
      const found = `layers ${startLayer} to ${endLayer} of ${nLayers}, world size ${worldSize}`;
      throw invalid(`found ${found}, one whole model needed`);
    }
  }
  const unbound = Object.keys(runnerToShard).find((id) => !bound.some((one) => one === id));
  if (unbound !== undefined) throw invalid(`runner ${unbound} has no node, one needed`);
}

function deleteInstance(state: State, instanceId: InstanceId): Decision {
  if (!state.instances.has(instanceId)) {
    throw new AppError("instance_not_found", `Instance "${instanceId}" not found`, {
      hint: "exo instance list shows what there is",
    });
  }
  return { events: instanceEnd(state, instanceId), instanceId };
}

/** Cancels what an instance still works on, then deletes it. */
export function instanceEnd(
  state: State,
  instanceId: InstanceId,
  failureError?: string,
): Event[] {
  const cancelled = [...state.tasks.values()]
    .filter((task) => task.instanceId === instanceId && isInFlight(task))
    .map(({ taskId }): Event => ({
      type: "TaskStatusUpdated",
      taskId,
      taskStatus: "Cancelled",
    }));
  const deleted: Event = {
    type: "InstanceDeleted",
    instanceId,
    ...(failureError === undefined ? {} : { failureError }),
  };
  return [...cancelled, deleted];
}

/** The ready instance with the fewest tasks in flight; ties go to the older one. */
function startGeneration(
  state: State,
  { type, commandId, modelId, apiNodeId }: Extract<Command, { apiNodeId: NodeId }>,
): Decision {
  const taskId = taskIdOf(commandId);
  if (state.tasks.has(taskId)) {
    throw new AppError("conflict", `Command "${commandId}" has been given already`);
  }
  const placed = [...state.instances.values()]
    .filter(({ shardAssignments }) => shardAssignments.modelId === modelId);
  const ready = placed.filter((instance) => isReady(state, instance));
  const [first] = ready;
  if (!first) throw noInstance(state, modelId, placed);
  const load = tasksInFlight(state);
  const best = ready.reduce(
    (best, next) => (load(next.instanceId) < load(best.instanceId) ? next : best),
    first,
  );
  const task = {
    type,
    taskId,
    commandId,
    instanceId: best.instanceId,
    modelId,
    apiNodeId,
    taskStatus: "Pending" as const,
  };
  return { events: [{ type: "TaskCreated", task }], instanceId: best.instanceId };
}

/** Whether every rank of the instance answers requests. */
export function isReady(state: State, instance: Instance): boolean {
  return runnersOf(instance).every((id) => isServing(state.runners.get(id)?.status));
}

function tasksInFlight(state: State): (instanceId: InstanceId) => number {
  const counts = new Map<InstanceId, number>();
  for (const task of state.tasks.values()) {
    if (isInFlight(task)) counts.set(task.instanceId, (counts.get(task.instanceId) ?? 0) + 1);
  }
  return (instanceId) => counts.get(instanceId) ?? 0;
}

function noInstance(state: State, modelId: ModelId, placed: readonly Instance[]): AppError {
  const [instance] = placed;
  if (!instance) {
    return new AppError("model_not_found", `No instance found for model ${modelId}`, {
      hint: `exo instance create ${modelId}`,
    });
  }
  const { instanceId } = instance;
  const retry = state.instanceRetries.get(instanceId);
  const [runnerId] = runnersOf(instance);
  const status = runnerId === undefined ? undefined : state.runners.get(runnerId)?.status.type;
  const found = retry && status === undefined
    ? `it failed and is retried (${retry.lastError})`
    : `its runner is ${status?.replace("Runner", "") ?? "starting"}`;
  return new AppError("not_ready", `Instance ${instanceId} of ${modelId} is not ready: ${found}`, {
    hint: `exo instance await ${instanceId}`,
  });
}

function cancelTask(state: State, taskId: TaskId): Decision {
  const task = state.tasks.get(taskId);
  if (!task || !isInFlight(task)) return { events: [] };
  return { events: [{ type: "TaskStatusUpdated", taskId, taskStatus: "Cancelled" }] };
}

function finishTask(state: State, taskId: TaskId): Decision {
  return { events: state.tasks.has(taskId) ? [{ type: "TaskDeleted", taskId }] : [] };
}

function addModelCard(
  state: State,
  { modelCard, holder }: Extract<Command, { type: "AddCustomModelCard" }>,
): Decision {
  const events: Event[] = [];
  const known = state.customModelCards.get(modelCard.modelId);
  if (JSON.stringify(known) !== JSON.stringify(modelCard)) {
    events.push({ type: "CustomModelCardAdded", modelCard });
  }
  if (holder) {
    const { nodeId, status } = holder;
    const before = state.downloads.get(nodeId)?.get(modelCard.modelId);
    if (JSON.stringify(before) !== JSON.stringify(status)) {
      const { modelId } = modelCard;
      events.push({ type: "NodeDownloadProgress", nodeId, modelId, status });
    }
  }
  return { events };
}

function deleteModelCard(state: State, modelId: ModelId): Decision {
  if (!state.customModelCards.has(modelId)) throw modelNotFound(state, modelId);
  const user = [...state.instances.values()]
    .find(({ shardAssignments }) => shardAssignments.modelId === modelId);
  if (user) {
    throw new AppError(
      "conflict",
      `Cannot remove "${modelId}": found instance ${user.instanceId} of it, none needed`,
      {
        hint: `exo instance delete ${user.instanceId}`,
      },
    );
  }
  return { events: [{ type: "CustomModelCardDeleted", modelId }] };
}

function modelNotFound(state: State, modelId: ModelId): AppError {
  const known = [...state.customModelCards.keys()].slice(0, 5).join(", ");
  return new AppError("model_not_found", `Model "${modelId}" is not known`, {
    hint: known ? `known models: ${known}` : "exo models add PATH registers a local model",
  });
}

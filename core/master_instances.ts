import type { Command } from "./commands.ts";
import { refuseContradiction } from "./contradictions.ts";
import { type Decision, instanceNotFound, modelNotFound } from "./decision.ts";
import { AppError } from "./errors.ts";
import type { Event } from "./events.ts";
import type { InstanceId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import { place } from "./placement.ts";
import { isServing } from "./runner_status.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Telemetry } from "./telemetry.ts";

/** Places an instance; one that is there already is the answer to a repeat. */
export function placeInstance(
  state: State,
  { instanceId, request, modelCard }: Extract<Command, { type: "PlaceInstance" }>,
  telemetry: Telemetry,
): Decision {
  const present = state.instances.get(instanceId);
  if (present?.shardAssignments.modelId === request.modelId) return { events: [], instanceId };
  if (present) throw idTaken(`Cannot place "${request.modelId}" as "${instanceId}"`, instanceId);
  const card = state.customModelCards.get(request.modelId) ?? modelCard;
  if (!card) throw modelNotFound(state, request.modelId);
  refuseContradiction(request, card);
  const placed = place(state, telemetry, { instanceId, card, request });
  if (!placed.ok) throw new AppError(placed.code, placed.reason, { hint: placed.hint });
  return { events: [{ type: "InstanceCreated", instance: placed.instance }], instanceId };
}

/** That a new instance may not have an id which another has. */
export function idTaken(wanted: string, instanceId: InstanceId): AppError {
  return new AppError("conflict", `${wanted}: an instance of that id exists, a new id needed`, {
    hint: `choose another instanceId, or remove that one: exo instance delete ${instanceId}`,
  });
}

/** Deletes an instance with what it still works on. */
export function deleteInstance(state: State, instanceId: InstanceId): Decision {
  if (!state.instances.has(instanceId)) throw instanceNotFound(instanceId);
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

/** Whether every rank of the instance answers requests. */
export function isReady(state: State, instance: Instance): boolean {
  return runnersOf(instance).every((id) => isServing(state.runners.get(id)?.status));
}

/** What the master makes of a command. Each concern has a file of its own. */
import type { Command, CommandReply } from "./commands.ts";
import type { DecideContext, Decision } from "./decision.ts";
import { toAppError } from "./errors.ts";
import { taskIdOf } from "./ids.ts";
import { addModelCard, deleteModelCard } from "./master_cards.ts";
import { createInstance } from "./master_create_instance.ts";
import { deleteInstance, placeInstance } from "./master_instances.ts";
import { deleteInstanceLink, setInstanceLink } from "./master_links.ts";
import {
  createMetaInstance,
  deleteMetaInstance,
  retryMetaInstance,
} from "./master_meta_instances.ts";
import { cancelTask, finishTask, startGeneration } from "./master_tasks.ts";
import { decideMerge } from "./merge.ts";
import type { State } from "./state.ts";

export type { DecideContext, Decision } from "./decision.ts";
export { instanceEnd, isReady } from "./master_instances.ts";

/**
 * Turns a command into events.
 * @throws {AppError} why the command is rejected; nothing happens then.
 */
export function decide(
  state: State,
  command: Command,
  context: DecideContext,
): Decision {
  const { telemetry } = context;
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
      return startGeneration(state, command, context);
    case "TaskCancelled":
      return cancelTask(state, taskIdOf(command.cancelledCommandId));
    case "TaskFinished":
      return finishTask(state, taskIdOf(command.finishedCommandId));
    case "AddCustomModelCard":
      return addModelCard(state, command);
    case "DeleteCustomModelCard":
      return deleteModelCard(state, command.modelId);
    case "SetInstanceLink":
      return setInstanceLink(state, command);
    case "DeleteInstanceLink":
      return deleteInstanceLink(state, command.linkId);
    case "CreateMetaInstance":
      return createMetaInstance(state, command, telemetry);
    case "DeleteMetaInstance":
      return deleteMetaInstance(state, command.metaInstanceId);
    case "RetryMetaInstance":
      return retryMetaInstance(state, command.metaInstanceId);
    case "MergeLineage":
      return decideMerge(state, command);
    // deno-coverage-ignore-start
    default:
      return command satisfies never;
      // deno-coverage-ignore-stop
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

/** What a client is told when its answer ends without a last word of the runner. */
import type { ErrorCode, ErrorInfo } from "../core/errors.ts";
import type { InstanceId, TaskId } from "../core/ids.ts";
import { failureOf } from "../core/reconcile_instances.ts";
import type { State } from "../core/state.ts";

const AGAIN = "ask again: another ready instance of the model serves it, if there is one";
/** What to do where an instance is made anew. */
export const RESTARTS = "the instance restarts by itself; try again in a few seconds";

/** The worker has ended the stream, and is still there. */
export const BROKE_OFF: ErrorInfo = {
  code: "runner_failed",
  message: "The answer broke off",
  hint: RESTARTS,
};

const REMOVED: ErrorInfo = {
  code: "instance_removed",
  message: "The instance was removed while generating",
  hint: "place the model again, then ask again: exo instance create MODEL",
};
const CANCELLED: ErrorInfo = { code: "cancelled", message: "The request was cancelled" };
const FAILED: ErrorInfo = {
  code: "runner_failed",
  message: "The runner failed while generating",
  hint: RESTARTS,
};
const FORGOTTEN: ErrorInfo = {
  code: "runner_failed",
  message: "The cluster has forgotten the request: this node was apart from others for a while",
  hint: AGAIN,
};

/** The node that was to answer cannot be reached from the one that was asked. */
export function lostNode(name: string): ErrorInfo {
  const message = `Node "${name}" was lost while it served the request: it cannot be reached`;
  return { code: "node_lost", message, hint: AGAIN };
}

/** What the answers under way are told when their runner is stopped. */
export function endOfService(state: State, instanceId: InstanceId): ErrorInfo {
  const instance = state.instances.get(instanceId);
  if (!instance) {
    return { code: "instance_removed", message: "The instance was removed while generating" };
  }
  const failure = failureOf(state, instance);
  if (failure === undefined) {
    return { code: "instance_removed", message: "The instance is being restarted" };
  }
  return { code: "group_broken", message: `A rank failed: ${failure}`, hint: RESTARTS };
}

/** Why nobody will say the last word of a task any more; undefined while somebody may. */
export function orphaned(
  { tasks, instances }: State,
  taskId: TaskId,
  instanceId: InstanceId,
): ErrorInfo | undefined {
  const task = tasks.get(taskId);
  const status = task?.taskStatus;
  if (status === "Pending" || status === "Running" || status === "Complete") return undefined;
  if (task?.errorMessage !== undefined) {
    return { code: codeOf(task.errorType), message: task.errorMessage, hint: AGAIN };
  }
  if (!instances.has(instanceId)) return REMOVED;
  if (!task) return FORGOTTEN;
  return status === "Cancelled" ? CANCELLED : FAILED;
}

/** The code for clients of what ended a task; the client's own node is not what cannot be reached. */
function codeOf(errorType: string | undefined): ErrorCode {
  if (errorType === "node_unreachable") return "node_lost";
  return errorType === "group_broken" ? errorType : "runner_failed";
}

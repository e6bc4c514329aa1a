import type { NodeId } from "./ids.ts";
import { type Instance, nodesByRank, runnersOf } from "./instance.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";

/**
 * Whether the ranks of an instance have something to compute together: a task, the warm-up, or a
 * prompt of another instance that they may be reading.
 */
export function hasGroupWork(state: State, instance: Instance): boolean {
  const warms = runnersOf(instance)
    .some((id) => state.runners.get(id)?.status.type === "RunnerWarmingUp");
  const { instanceId } = instance;
  return warms ||
    [...state.tasks.values()].some((task) =>
      isInFlight(task) &&
      (task.instanceId === instanceId || task.prefill?.instanceId === instanceId)
    );
}

/** ` without b and c`: the nodes whose ranks have not come to the meeting; empty when all have. */
export function withoutWhom(state: State, instance: Instance): string {
  const nodes = nodesByRank(instance);
  const missing = runnersOf(instance).flatMap((runnerId, rank) => {
    const status = state.runners.get(runnerId)?.status.type;
    const isThere = status === "RunnerConnecting" || status === "RunnerConnected";
    return isThere ? [] : [nameOf(state, nodes[rank] as NodeId)];
  });
  return missing.length === 0 ? "" : ` without ${missing.join(" and ")}`;
}

function nameOf({ nodes }: State, nodeId: NodeId): string {
  return nodes.get(nodeId)?.info.friendlyName || nodeId;
}

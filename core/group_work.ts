import { type Instance, runnersOf } from "./instance.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";

/** Whether the ranks of an instance have something to compute together: a task, or the warm-up. */
export function hasGroupWork(state: State, instance: Instance): boolean {
  const warms = runnersOf(instance)
    .some((id) => state.runners.get(id)?.status.type === "RunnerWarmingUp");
  return warms || [...state.tasks.values()]
    .some((task) => task.instanceId === instance.instanceId && isInFlight(task));
}

import { networkOf, ringHop } from "./addresses.ts";
import type { InstanceId, NodeId, RunnerId } from "./ids.ts";
import type { Instance } from "./instance.ts";
import type { PrefillSource } from "./prefill.ts";
import { isServing } from "./runner_status.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Telemetry } from "./telemetry.ts";

/** Whether an instance prefills for others and decodes for none: it answers no text itself. */
export function isPrefillOnly({ instanceLinks }: State, instanceId: InstanceId): boolean {
  const links = [...instanceLinks.values()];
  return links.some(({ prefillInstances }) => prefillInstances.includes(instanceId)) &&
    !links.some(({ decodeInstances }) => decodeInstances.includes(instanceId));
}

/** Which end of a link an instance is at. */
export type LinkEnd = "prefill" | "decode";

/**
 * Why an instance that is linked takes no part in reading prompts for others, as far as it is not a
 * matter of the way there; undefined: it does, or is not ready yet.
 */
export function linkObstacle(
  { runners }: State,
  instance: Instance,
  end: LinkEnd,
): string | undefined {
  const [rank, ...others] = nodesOf(instance);
  if (others.length > 0) {
    return `it runs over ${others.length + 1} nodes, each of which has a part of the keys and ` +
      "values; one that has all of them needed";
  }
  const runner = rank && runners.get(rank[1]);
  const serves = end === "decode" || runner?.prefillTokensPerSecond !== undefined;
  if (serves || !runner || !isServing(runner.status)) return undefined;
  return "its engine keeps keys and values that cannot travel";
}

/**
 * Who may prefill for an instance: the least busy of those that are linked to it, serve prefills on
 * a single rank, and can be reached. Undefined: it does it itself.
 */
export function prefillSource(
  state: State,
  decode: Instance,
  { telemetry, load }: { telemetry: Telemetry; load: (instanceId: InstanceId) => number },
): PrefillSource | undefined {
  const linked = [...state.instanceLinks.values()]
    .filter(({ decodeInstances }) => decodeInstances.includes(decode.instanceId))
    .flatMap(({ prefillInstances }) => prefillInstances)
    .filter((id) => id !== decode.instanceId);
  const [own] = nodesOf(decode);
  if (linked.length === 0 || !own || linkObstacle(state, decode, "decode")) return undefined;
  const busy = (id: InstanceId) => load(id) + prefillsOf(state, id);
  const byLoad = [...new Set(linked)].toSorted((a, b) => busy(a) - busy(b));
  const network = networkOf(state, telemetry);
  for (const instanceId of byLoad) {
    const source = state.instances.get(instanceId);
    const [rank] = source ? nodesOf(source) : [];
    if (!source || !rank || linkObstacle(state, source, "prefill")) continue;
    const [nodeId, runnerId] = rank;
    const serves = state.runners.get(runnerId)?.prefillTokensPerSecond !== undefined;
    if (serves && ringHop(network, own[0], nodeId)) return { instanceId, nodeId };
  }
  return undefined;
}

/** Tasks in flight whose prompts an instance may be reading for others. */
function prefillsOf({ tasks }: State, instanceId: InstanceId): number {
  return [...tasks.values()]
    .filter((task) => isInFlight(task) && task.prefill?.instanceId === instanceId).length;
}

type Rank = [NodeId, RunnerId];

function nodesOf({ shardAssignments }: Instance): Rank[] {
  return Object.entries(shardAssignments.nodeToRunner) as Rank[];
}

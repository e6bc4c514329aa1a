import { networkOf, ringHop } from "./addresses.ts";
import type { InstanceId, NodeId } from "./ids.ts";
import { type Instance, nodesByRank, runnersOf } from "./instance.ts";
import type { InstanceLink } from "./instance_link.ts";
import type { PrefillSource } from "./prefill.ts";
import { isServing, type RunnerState } from "./runner_status.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Telemetry } from "./telemetry.ts";

/**
 * Whether an instance prefills for others and decodes for none: it answers no text itself, unless
 * something keeps it from prefilling for anybody.
 */
export function isPrefillOnly(state: State, instanceId: InstanceId): boolean {
  const links = [...state.instanceLinks.values()];
  if (links.some(({ decodeInstances }) => decodeInstances.includes(instanceId))) return false;
  const instance = state.instances.get(instanceId);
  if (!instance) return false;
  return links.some((link) =>
    link.prefillInstances.includes(instanceId) &&
    linkObstacle(state, instance, { end: "prefill", link }) === undefined
  );
}

/** Which end of a link an instance is at. */
export type LinkEnd = "prefill" | "decode";

/**
 * Why an instance that is linked takes no part in reading prompts for others, as far as it is not a
 * matter of the way there; undefined: it does, or is not ready yet.
 */
export function linkObstacle(
  { runners, instances }: State,
  instance: Instance,
  { end, link }: { readonly end: LinkEnd; readonly link: InstanceLink },
): string | undefined {
  const { runner } = firstRank({ runners }, instance);
  const isKnown = runner !== undefined && isServing(runner.status);
  if (end === "prefill" && isKnown && runner.prefillTokensPerSecond === undefined) {
    return "its engine keeps keys and values that cannot travel";
  }
  const others = end === "prefill" ? link.decodeInstances : link.prefillInstances;
  const differences = others.flatMap((id) => {
    const other = instances.get(id);
    return other && id !== instance.instanceId ? [instanceDifference(instance, other)] : [];
  });
  // One that it has keys and values in common with is enough.
  return differences.includes(undefined) ? undefined : differences[0];
}

/** What keeps two instances from having keys and values in common, as far as they were told. */
function instanceDifference(own: Instance, other: Instance): string | undefined {
  const modelIds = [own, other].map(({ shardAssignments: { modelId } }) => modelId);
  if (modelIds[0] !== modelIds[1]) {
    return `its model is ${modelIds[0]}, that at the other end ${modelIds[1]}`;
  }
  const bits = [own, other].map(({ config }) => bitsOf(config?.kvBits));
  if (bits[0] === bits[1]) return undefined;
  return `its cache is kept ${bits[0]}, that at the other end ${bits[1]}`;
}

function bitsOf(kvBits: number | undefined): string {
  return kvBits === undefined ? "as its device does best" : `in ${kvBits} bits`;
}

/**
 * Who may prefill for an instance: the least busy of those that are linked to it, serve prefills,
 * and can be reached, from first rank to first rank. Undefined: it does it itself.
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
  const own = firstRank(state, decode).nodeId;
  if (linked.length === 0 || !own) return undefined;
  const busy = (id: InstanceId) => load(id) + prefillsOf(state, id);
  const byLoad = [...new Set(linked)].toSorted((a, b) => busy(a) - busy(b));
  const network = networkOf(state, telemetry);
  for (const instanceId of byLoad) {
    const source = state.instances.get(instanceId);
    const { nodeId, runner } = source ? firstRank(state, source) : {};
    if (!source || !nodeId || runner?.prefillTokensPerSecond === undefined) continue;
    if (instanceDifference(decode, source)) continue;
    if (ringHop(network, own, nodeId)) return { instanceId, nodeId };
  }
  return undefined;
}

/** Tasks in flight whose prompts an instance may be reading for others. */
function prefillsOf({ tasks }: State, instanceId: InstanceId): number {
  return [...tasks.values()]
    .filter((task) => isInFlight(task) && task.prefill?.instanceId === instanceId).length;
}

/** The rank that has the engine, and through which the keys and values of all others go. */
function firstRank(
  { runners }: Pick<State, "runners">,
  instance: Instance,
): { nodeId?: NodeId | undefined; runner?: RunnerState | undefined } {
  const [runner] = runnersOf(instance).map((runnerId) => runners.get(runnerId));
  const [nodeId] = nodesByRank(instance);
  return { nodeId, runner };
}

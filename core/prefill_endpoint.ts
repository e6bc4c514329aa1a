import { networkOf, ringHop } from "./addresses.ts";
import type { InstanceId, NodeId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import { hostPort } from "./multiaddr.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** Whether an instance prefills for others and decodes for none: it answers no text itself. */
export function isPrefillOnly({ instanceLinks }: State, instanceId: InstanceId): boolean {
  const links = [...instanceLinks.values()];
  return links.some(({ prefillInstances }) => prefillInstances.includes(instanceId)) &&
    !links.some(({ decodeInstances }) => decodeInstances.includes(instanceId));
}

/**
 * Where an instance has its prompts prefilled, as `ip:port`: the least busy of the instances that
 * are linked to it, by the best way to a rank that serves prefills. Undefined: it does it itself.
 */
export function prefillEndpoint(
  state: State,
  decode: Instance,
  { telemetry, load }: { telemetry: Telemetry; load: (instanceId: InstanceId) => number },
): string | undefined {
  const sources = [...state.instanceLinks.values()]
    .filter(({ decodeInstances }) => decodeInstances.includes(decode.instanceId))
    .flatMap(({ prefillInstances }) => prefillInstances)
    .filter((id) => id !== decode.instanceId);
  if (sources.length === 0) return undefined;
  const byLoad = [...new Set(sources)].toSorted((a, b) => load(a) - load(b));
  const [first] = runnersOf(decode);
  const from = nodesOf(decode).find(([, runnerId]) => runnerId === first)?.[0];
  const network = networkOf(state, telemetry);
  for (const id of byLoad) {
    const source = state.instances.get(id);
    for (const [to, runnerId] of source && from ? nodesOf(source) : []) {
      const port = state.runners.get(runnerId)?.prefillServerPort;
      const hop = port && from ? ringHop(network, from, to) : undefined;
      if (port && hop) return hostPort(hop.sinkIp, port);
    }
  }
  return undefined;
}

type Rank = [NodeId, ReturnType<typeof runnersOf>[number]];

function nodesOf({ shardAssignments }: Instance): Rank[] {
  return Object.entries(shardAssignments.nodeToRunner) as Rank[];
}

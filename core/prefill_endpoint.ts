import { endpointOf, ringIp } from "./edge_ip.ts";
import type { InstanceId, NodeId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import type { State } from "./state.ts";

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
  load: (instanceId: InstanceId) => number,
): string | undefined {
  const sources = [...state.instanceLinks.values()]
    .filter(({ decodeInstances }) => decodeInstances.includes(decode.instanceId))
    .flatMap(({ prefillInstances }) => prefillInstances)
    .filter((id) => id !== decode.instanceId);
  const byLoad = [...new Set(sources)].toSorted((a, b) => load(a) - load(b));
  const [first] = runnersOf(decode);
  const from = nodesOf(decode).find(([, runnerId]) => runnerId === first)?.[0];
  for (const id of byLoad) {
    const source = state.instances.get(id);
    for (const [to, runnerId] of source && from ? nodesOf(source) : []) {
      const port = state.runners.get(runnerId)?.prefillServerPort;
      const ip = port && from ? ringIp(state, from, to) : undefined;
      if (port && ip) return endpointOf(ip, port);
    }
  }
  return undefined;
}

type Rank = [NodeId, ReturnType<typeof runnersOf>[number]];

function nodesOf({ shardAssignments }: Instance): Rank[] {
  return Object.entries(shardAssignments.nodeToRunner) as Rank[];
}

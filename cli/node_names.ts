import type { StateView } from "../api/client.ts";

/** What people call each node: its friendly name, or its id where others share that name. */
export function distinctNames(
  names: Iterable<readonly [nodeId: string, name: string]>,
): ReadonlyMap<string, string> {
  const all = [...names];
  const shared = Map.groupBy(all, ([, name]) => name);
  return new Map(all.map(([nodeId, name]) => {
    const isOne = name !== "" && shared.get(name)?.length === 1;
    return [nodeId, isOne ? name : nodeId];
  }));
}

/** What people call the nodes that are there. */
export function namesOf(
  { nodeIdentities }: Pick<StateView, "nodeIdentities">,
): ReadonlyMap<string, string> {
  return distinctNames(
    Object.entries(nodeIdentities).map(([nodeId, { friendlyName }]) => [nodeId, friendlyName]),
  );
}

/** Nodes as people call them; by id those that are away. */
export function nodeWords(
  nodeIds: readonly string[],
  state: Pick<StateView, "nodeIdentities">,
): string {
  const names = namesOf(state);
  return nodeIds.map((nodeId) => names.get(nodeId) ?? nodeId).join(", ");
}

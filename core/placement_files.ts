import { listed } from "./listed.ts";
import type { Case, Reason } from "./placement_refusal.ts";
import { idsOf } from "./placement_search.ts";
import { isHolder, nodeNames, type NodeView, pinnedNodes } from "./placement_view.ts";

/** Which nodes have the files of a model, and that they are too few, or the wrong ones. */
export function noFiles({ state, view: { card, request, nodes, size }, last }: Case): Reason {
  const names = nodeNames(state);
  const holders = [...names].filter(([id]) => isHolder(state, id, card)).map(([, name]) => name);
  const nodeIds = idsOf({ nodes }, last.order);
  if (holders.length === 0) {
    const isLocal = card.modelId.startsWith("local/");
    const hint = isLocal
      ? "add its files on a node that has them: exo models add PATH"
      : "fetch them yourself, then exo run PATH: this version fetches none";
    return { reason: "no node has its files, one that has them needed", hint, nodeIds };
  }
  const pinned = nodes.filter(({ nodeId, hasFiles }) =>
    !hasFiles && pinnedNodes(request).includes(nodeId)
  );
  const least = size ?? Math.max(request.minNodes, pinnedNodes(request).length);
  const needed = pinned.length > 0
    ? `node ${listed(pinned.map(({ name }) => name), ", ")} lacks them`
    : `${least === 1 ? "one" : least} of ${nodes.length} allowed nodes with them needed`;
  const only = `only ${listed(holders, ", ")} ${holders.length === 1 ? "has" : "have"} its files`;
  const hint = "let nodes that have them do it, or add them on others: exo models add PATH there";
  return { reason: `${only}, ${needed}`, hint, nodeIds };
}

/** That a node lacks the files of a model; undefined when it has them, or can fetch them. */
export function withoutFiles(
  { name, hasFiles }: Pick<NodeView, "name" | "hasFiles">,
): string | undefined {
  return hasFiles ? undefined : `node ${name} has none of the model's files, all needed`;
}

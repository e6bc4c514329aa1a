import { AppError } from "../core/errors.ts";
import { NodeId } from "../core/ids.ts";
import type { State } from "../core/state.ts";

/** Most names that a hint lists. */
const NAMES_MAX = 8;

/** A node by all that people call it. */
export interface NamedNode {
  readonly nodeId: NodeId;
  readonly name: string;
}

/** The whole id of a node, which names one that is away, too: the PeerId of an Ed25519 key. */
const WHOLE_ID = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/;

/** The live nodes with their friendly names. */
export function namedNodes({ nodes }: Pick<State, "nodes">): NamedNode[] {
  return [...nodes].map(([nodeId, { info }]) => ({ nodeId, name: info.friendlyName }));
}

/**
 * The node that `wanted` names: by its id, its friendly name, or a prefix of either that no other
 * node shares. The whole id of a node that is away stands for itself.
 * @throws {AppError} `invalid_request` with the known nodes, or with those that it could be.
 */
export function findNode(nodes: readonly NamedNode[], wanted: string): NodeId {
  const lower = wanted.toLowerCase();
  const rules: ((node: NamedNode) => boolean)[] = [
    ({ nodeId }) => nodeId === wanted,
    ({ name }) => name.toLowerCase() === lower,
    ({ nodeId, name }) => nodeId.startsWith(wanted) || name.toLowerCase().startsWith(lower),
  ];
  for (const rule of rules) {
    const found = nodes.filter(rule);
    const [only] = found;
    if (only && found.length === 1) return only.nodeId;
    if (only) {
      throw unnamed(wanted, `${found.length} nodes of that name`, `it could be ${list(found)}`);
    }
  }
  if (WHOLE_ID.test(wanted)) return NodeId.parse(wanted);
  const hint = nodes.length === 0 ? "start a node with exo serve" : `known nodes: ${list(nodes)}`;
  throw unnamed(wanted, "no node of that name", hint);
}

function unnamed(wanted: string, found: string, hint: string): AppError {
  const message = `Cannot find node "${wanted}": found ${found}, ` +
    "an id, a friendly name or the beginning of one needed";
  return new AppError("invalid_request", message, { hint });
}

function list(nodes: readonly NamedNode[]): string {
  const more = nodes.length > NAMES_MAX ? ", …" : "";
  return nodes.slice(0, NAMES_MAX).map(({ nodeId, name }) => `${name} (${nodeId})`).join(", ") +
    more;
}

import { deepEqual, equal, match, throws } from "node:assert/strict";
import { findNode, namedNodes } from "../../api/node_names.ts";
import { AppError } from "../../core/errors.ts";
import { NodeId } from "../../core/ids.ts";
import { A, B, fold, nodeStarted } from "../support/fixtures.ts";

const named = (nodeId: string, name: string) => ({ nodeId: NodeId.parse(nodeId), name });
const NODES = [named("12D3a", "Mac Mini"), named("12D3b", "Mac Studio"), named("9f", "mini")];

Deno.test("findNode() takes an id, a friendly name in any case, or the beginning of one", () => {
  const found = { "12D3b": "12D3b", "mac mini": "12D3a", "Mac S": "12D3b", "9": "9f", mini: "9f" };
  for (const [wanted, nodeId] of Object.entries(found)) equal(findNode(NODES, wanted), nodeId);
});

Deno.test("findNode() takes a whole id before a name, and a name before the beginning of one", () => {
  const nodes = [named("a", "b"), named("b", "a"), named("c", "ab")];
  deepEqual([findNode(nodes, "a"), findNode(nodes, "b")], ["a", "b"]);
  equal(findNode([named("1", "box"), named("2", "box-2")], "box"), "1");
});

Deno.test("findNode() takes the whole id of a node that is away, and nothing else unknown", () => {
  const away = `12D3KooW${"a".repeat(44)}`;
  equal(findNode(NODES, away), away);
  for (const wanted of ["somebody", away.slice(1), `${away}a`, ""]) {
    throws(() => findNode([], wanted), { code: "invalid_request", hint: /exo serve/ });
  }
});

Deno.test("findNode() says which nodes there are, or which it could be", () => {
  const hintOf = (nodes: typeof NODES, wanted: string) => {
    try {
      findNode(nodes, wanted);
    } catch (cause) {
      if (cause instanceof AppError) return `${cause.message}; ${cause.hint}`;
    }
    return "";
  };
  match(
    hintOf(NODES, "mac"),
    /found 2 nodes .* could be Mac Mini \(12D3a\), Mac Studio \(12D3b\)$/,
  );
  match(hintOf(NODES, "nobody"), /known nodes: Mac Mini \(12D3a\), .*, mini \(9f\)$/);
  const many = Array.from({ length: 9 }, (_, n) => named(`id${n}`, `node ${n}`));
  match(hintOf(many, "x"), /node 7 \(id7\), …$/);
});

Deno.test("namedNodes() tells the live nodes", () => {
  const state = fold([nodeStarted(A), nodeStarted(B)]);
  deepEqual(namedNodes(state), [{ nodeId: A, name: A }, { nodeId: B, name: B }]);
});

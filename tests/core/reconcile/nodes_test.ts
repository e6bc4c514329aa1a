import assert from "node:assert/strict";
import type { Event } from "../../../core/events.ts";
import type { NodeId } from "../../../core/ids.ts";
import {
  NODE_TIMEOUT_MS,
  type NodesContext,
  reconcileNodes,
} from "../../../core/reconcile_nodes.ts";
import {
  A,
  B,
  C,
  created,
  fold,
  instanceOf,
  nodeStarted,
  reported,
  taskCreated,
  taskOf,
} from "../../support/fixtures.ts";

const UPTIME = 100_000;
const NODES = [A, B, C].map((nodeId) => nodeStarted(nodeId));

/** What was heard of nodes, by how long ago it was. */
function silent(agoMs: readonly (readonly [NodeId, number])[], uptime = UPTIME): NodesContext {
  const lastSeen = new Map(agoMs.map(([nodeId, ms]) => [nodeId, uptime - ms]));
  return { telemetry: { lastSeen }, uptime, now: 7 };
}

const timedOut = (nodeId: NodeId): Event => ({ type: "NodeTimedOut", nodeId });

Deno.test("a node is let go of after 30 s of silence, one at a time, and not before", () => {
  const state = fold(NODES);
  assert.equal(NODE_TIMEOUT_MS, 30_000);
  assert.deepEqual(reconcileNodes(state, silent([[A, 29_999], [B, 29_999]])), []);
  const context = silent([[A, 0], [B, 30_000], [C, 31_000]]);
  assert.deepEqual(reconcileNodes(state, context), [timedOut(B)]);
  const without = fold([timedOut(B)], state);
  assert.deepEqual(reconcileNodes(without, context), [timedOut(C)]);
  assert.deepEqual(reconcileNodes(fold([timedOut(C)], without), context), []);
});

Deno.test("a node of which nobody has said yet since when it is silent is waited for", () => {
  assert.deepEqual(reconcileNodes(fold(NODES), silent([])), []);
});

Deno.test("S6, changed by D13: none goes for its friendly name, however long ago it was seen", () => {
  const renamed = [A, B].map((nodeId): Event => ({
    type: "NodeGatheredInfo",
    nodeId,
    incarnation: 1,
    info: { type: "MiscData", friendlyName: "My Mac Studio" },
  }));
  const state = fold([...NODES, ...renamed]);
  assert.deepEqual(reconcileNodes(state, silent([[A, 10_000], [B, 1_000]])), []);
});

Deno.test("a node leaves with its runners, its requests, and what it served for others", () => {
  const pair = instanceOf("pair", [A, B]);
  const state = fold([
    ...NODES,
    created(pair),
    created(instanceOf("alone", [B])),
    created(instanceOf("starting", [B])),
    created(instanceOf("elsewhere", [C])),
    reported("pair:0", "RunnerReady"),
    reported("pair:1", "RunnerReady", { incarnation: 4 }),
    reported("alone:0", "RunnerFailed"),
    reported("elsewhere:0", "RunnerReady"),
    taskCreated(taskOf("served", "pair")),
    taskCreated(taskOf("done", "pair", { taskStatus: "Complete" })),
    taskCreated(taskOf("asked", "elsewhere", { apiNodeId: B })),
    taskCreated(taskOf("both", "pair", { apiNodeId: B })),
    taskCreated(taskOf("other", "elsewhere")),
  ]);
  const events = reconcileNodes(state, silent([[B, 30_000]]));
  const status = { type: "RunnerShutdown" };
  const stopped = { type: "RunnerStatusUpdated", status, at: 7 };
  const errorMessage = 'Node "node-b" was lost while it served the request: it was silent for 30 s';
  assert.deepEqual(events, [
    { ...stopped, runnerId: "pair:1", incarnation: 4 },
    { ...stopped, runnerId: "alone:0", incarnation: 1 },
    { type: "TaskFailed", taskId: "served", errorType: "node_unreachable", errorMessage },
    { type: "TaskDeleted", taskId: "asked" },
    { type: "TaskDeleted", taskId: "both" },
    timedOut(B),
  ]);
  const left = fold(events, state);
  assert.deepEqual([...left.runners.keys()], ["pair:0", "elsewhere:0"]);
  assert.deepEqual([...left.tasks.keys()], ["served", "done", "other"]);
  assert.deepEqual([...left.nodes.keys()], [A, C]);
});

Deno.test("a node without a name is named by its id", () => {
  const nameless: Event = {
    type: "NodeGatheredInfo",
    nodeId: A,
    incarnation: 1,
    info: { type: "MiscData", friendlyName: "" },
  };
  const state = fold([
    ...NODES,
    nameless,
    created(instanceOf("i")),
    taskCreated(taskOf("t", "i", {
      apiNodeId: B,
    })),
  ]);
  const [failed] = reconcileNodes(state, silent([[A, 30_000]]));
  assert.ok(failed?.type === "TaskFailed" && failed.errorMessage.includes('"node-a"'));
});

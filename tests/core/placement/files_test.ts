/** Models go only to nodes that have their files, or can fetch them. */
import assert from "node:assert/strict";
import type { Event } from "../../../core/events.ts";
import type { InstanceId, NodeId } from "../../../core/ids.ts";
import { ModelId } from "../../../core/ids.ts";
import { nodesByRank } from "../../../core/instance.ts";
import { createInstance } from "../../../core/master_create_instance.ts";
import { place } from "../../../core/placement.ts";
import { previews } from "../../../core/previews.ts";
import type { PlacementRequest } from "../../../core/placement_request.ts";
import { GIB } from "../../../core/units.ts";
import { socket } from "../../support/control_plane.ts";
import {
  A,
  B,
  C,
  cardOf,
  downloaded,
  fold,
  instanceId,
  instanceOf,
  memoryOf,
  MODEL,
  nodeStarted,
  placementOf,
  telemetryOf,
} from "../../support/fixtures.ts";
import { rejects } from "../../support/rejects.ts";

const HUB = ModelId.parse("org/model-4bit");
const ALL = [A, B, C];

/** A node that says whether it fetches what it lacks. */
function node(nodeId: NodeId, fetchesModels: boolean): Event {
  const started = nodeStarted(nodeId);
  return { ...started, info: { ...started.info, fetchesModels } };
}

/** Three nodes that reach each other and fetch nothing, of which some have the model. */
function cluster(...holders: readonly NodeId[]) {
  const edges = ALL.flatMap((a) => ALL.filter((b) => a !== b).map((b) => socket(a, b)));
  return fold([
    ...ALL.map((id) => node(id, false)),
    ...edges,
    ...holders.map((id) => downloaded(id)),
  ]);
}

const telemetry = telemetryOf(memoryOf(GIB, ALL));

function placed(
  state: ReturnType<typeof cluster>,
  request: Partial<PlacementRequest> = {},
  card = cardOf(),
  id: InstanceId = instanceId("i"),
) {
  const options = { instanceId: id, card, request: { ...placementOf(), ...request } };
  return place(state, telemetry, options);
}

function nodesOf(found: ReturnType<typeof placed>): readonly NodeId[] {
  assert.ok(found.ok, found.ok ? "" : found.reason);
  return nodesByRank(found.instance);
}

/** Why nothing was placed, and what to do. */
function why(found: ReturnType<typeof placed>): [string, string] {
  assert.ok(!found.ok);
  return [found.reason, found.hint];
}

Deno.test("a model goes to the node that has it, however much room others have", () => {
  const memory = new Map([...memoryOf(8 * GIB, [A, C]), ...memoryOf(GIB, [B])]);
  const options = { instanceId: instanceId("i"), card: cardOf(), request: placementOf() };
  assert.deepEqual(nodesOf(place(cluster(B), telemetryOf(memory), options)), [B]);
  assert.deepEqual(nodesOf(placed(cluster(A, C), { minNodes: 2 })), [A, C]);
});

Deno.test("a model that no node has is refused, with where its files come from", () => {
  const none = "no node has its files, one that has them needed";
  assert.deepEqual(why(placed(cluster())), [
    `Cannot place "${MODEL}": ${none}`,
    "add its files on a node that has them: exo models add PATH",
  ]);
  assert.deepEqual(why(placed(cluster(), {}, cardOf({ modelId: HUB }))), [
    `Cannot place "${HUB}": ${none}`,
    "fetch them yourself, then exo run PATH: this version fetches none",
  ]);
});

Deno.test("a refusal names the nodes that have the files", () => {
  const two = why(placed(cluster(B), { minNodes: 2 }));
  const only = `Cannot place "${MODEL}": only node-b has its files`;
  assert.equal(two[0], `${only}, 2 of 3 allowed nodes with them needed`);
  assert.match(two[1], /exo models add PATH there$/);
  const pinned = why(placed(cluster(B), { nodeIds: [A] }));
  assert.equal(pinned[0], `${only}, node node-a lacks them`);
  const excluded = why(placed(cluster(B), { excludedNodeIds: [B] }));
  assert.equal(excluded[0], `${only}, one of 2 allowed nodes with them needed`);
  const both = why(placed(cluster(B, C), { minNodes: 3 }));
  assert.match(both[0], /: only node-b, node-c have its files, 3 of 3 allowed nodes/);
});

Deno.test("a node that has the files and no room is what stands in the way", () => {
  const memory = new Map([...memoryOf(8 * GIB, [A, C]), ...memoryOf(1, [B])]);
  const options = { instanceId: instanceId("i"), card: cardOf(), request: placementOf() };
  const [reason] = why(place(cluster(B), telemetryOf(memory), options));
  assert.equal(reason, `Cannot place "${MODEL}": node node-b has 1 B free, 100.0 MiB needed`);
});

Deno.test("a node that fetches models may get one of a hub, and none of a disk", () => {
  const fetching = fold(ALL.map((id) => node(id, id === A)));
  assert.deepEqual(nodesOf(placed(fetching, {}, cardOf({ modelId: HUB }))), [A]);
  assert.equal(placed(fetching).ok, false);
});

Deno.test("on paper files do not count", () => {
  assert.ok(placed(fold(ALL.map((id) => nodeStarted(id)))).ok);
});

Deno.test("previews say of each node that it lacks the files", () => {
  const { placements, rejected } = previews(cluster(), telemetry, {
    card: cardOf(),
    request: placementOf(),
    shardings: ["Pipeline"],
    instanceMetas: ["MlxRing"],
    instanceId: instanceId("p"),
  });
  assert.deepEqual(placements, []);
  assert.deepEqual(rejected.slice(0, 3).map(({ reason, nodeIds }) => [nodeIds, reason]), [
    [[A], "node node-a has none of the model's files, all needed"],
    [[B], "node node-b has none of the model's files, all needed"],
    [[C], "node node-c has none of the model's files, all needed"],
  ]);
});

Deno.test("an instance that a client has put together needs the files, too", () => {
  const wanted = instanceOf("i", [A]);
  const message = /Cannot create instance "i": node node-a has none of the model's files/;
  rejects(() => createInstance(cluster(B), wanted, telemetry), "placement_failed", message);
  assert.equal(createInstance(cluster(A), wanted, telemetry).events.length, 1);
});

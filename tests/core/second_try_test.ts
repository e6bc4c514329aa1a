import assert from "node:assert/strict";
import type { Event } from "../../core/events.ts";
import { ModelId, type NodeId } from "../../core/ids.ts";
import { givenTo, outlookOf } from "../../core/second_try.ts";
import type { MetaInstance } from "../../core/meta_instance.ts";
import type { State } from "../../core/state.ts";
import { linkCreated, metaCreated, metaOf } from "../support/control_plane.ts";
import {
  A,
  B,
  created,
  fold,
  instanceId,
  instanceOf,
  MODEL,
  reported,
} from "../support/fixtures.ts";

const placed = (id: string, node: NodeId): Event[] => [
  created(instanceOf(id, [node])),
  reported(`${id}:0`, "RunnerReady"),
];
const failed: Event = reported("a:0", "RunnerFailed");
const anew: Event = reported("a:0", "RunnerReady", { incarnation: 7 });

const look = (
  state: State,
  before: State,
  isReachable: (id: NodeId) => boolean = () => true,
) => outlookOf(state, { modelId: MODEL, failed: givenTo(before, instanceId("a")), isReachable });

const alone = fold(placed("a", A));

Deno.test("who may answer what an instance has failed", () => {
  assert.equal(look(fold(placed("b", B), alone), alone), "ready", "another one");
  assert.equal(look(fold([anew], alone), alone), "ready", "the same, made anew");
  assert.equal(look(alone, alone), "same", "nobody says that anything is wrong");
  assert.equal(look(fold([failed], alone), alone), "later", "it is tried again");
  const removed: Event = { type: "InstanceDeleted", instanceId: instanceId("a") };
  assert.equal(look(fold([removed], alone), alone), "nobody");
});

Deno.test("a runner that came after the request was given is another one", () => {
  const before = fold([created(instanceOf("a", [A]))]);
  assert.equal(look(alone, before), "ready");
  assert.equal(look(alone, fold([])), "ready");
});

Deno.test("an instance whose first rank cannot be reached may come back", () => {
  const pair = fold([
    created(instanceOf("a", [A, B])),
    reported("a:0", "RunnerReady"),
    reported("a:1", "RunnerReady"),
  ]);
  assert.equal(look(pair, pair, (id) => id !== A), "later");
  assert.equal(look(pair, pair, (id) => id !== B), "same", "the first rank speaks for all");
});

Deno.test("an instance that only reads prompts for others answers nobody", () => {
  const link = linkCreated("l", ["b"], ["a"]);
  const status = { type: "RunnerReady", prefillTokensPerSecond: 700 } as const;
  const prefills = { ...reported("b:0", "RunnerReady"), status };
  const linked = fold([...placed("b", B), prefills, link, failed], alone);
  assert.equal(look(linked, alone), "later");
});

Deno.test("an instance that is wished for is waited for while it has a place", () => {
  const wish = (fields: Partial<MetaInstance>) =>
    look(fold([metaCreated(metaOf("m", fields))]), alone);
  assert.equal(wish({ phase: "retrying" }), "later");
  assert.equal(wish({ phase: "parked" }), "nobody");
  assert.equal(wish({ placementError: "no room" }), "nobody");
});

Deno.test("other models' instances and wishes are nobody's help", () => {
  const modelId = ModelId.parse("another");
  const none = fold([metaCreated(metaOf("m"))], alone);
  const failed = givenTo(none, instanceId("a"));
  const outlook = outlookOf(alone, { modelId, failed, isReachable: () => true });
  assert.equal(outlook, "nobody");
  assert.equal(outlookOf(none, { modelId, failed, isReachable: () => true }), "nobody");
});

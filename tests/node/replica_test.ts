import assert from "node:assert/strict";
import { EMPTY_STATE } from "../../core/state.ts";
import { Replica } from "../../node/replica.ts";
import { A, B, fold, nodeStarted } from "../support/fixtures.ts";

Deno.test("listeners hear of a newer state once it is there, and not of the same one", () => {
  const replica = new Replica(EMPTY_STATE);
  const heard: number[] = [];
  const stop = replica.onChange(() => heard.push(replica.state.lastEventAppliedIdx));
  const state = fold([nodeStarted(A), nodeStarted(B)]);
  replica.set(state);
  replica.set(state);
  stop();
  replica.set(EMPTY_STATE);
  assert.deepEqual(heard, [1]);
});

Deno.test("a listener that leaves while it is told does not keep others from hearing", () => {
  const replica = new Replica(EMPTY_STATE);
  const heard: string[] = [];
  const stop = replica.onChange(() => {
    heard.push("first");
    stop();
  });
  replica.onChange(() => heard.push("second"));
  replica.set(fold([nodeStarted(A)]));
  replica.set(fold([nodeStarted(B)]));
  assert.deepEqual(heard, ["first", "second", "second"]);
});

import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import type { IndexedEvent } from "../../core/events.ts";
import { EMPTY_STATE } from "../../core/state.ts";
import { Replica } from "../../node/replica.ts";
import { A, nodeStarted } from "../support/cluster.ts";

const event = (idx: number): IndexedEvent => ({
  idx,
  epoch: { clock: 1, nodeId: A },
  event: nodeStarted(A, idx),
});

Deno.test("listeners hear once of a batch, after it is applied, and not of an empty one", () => {
  const replica = new Replica(EMPTY_STATE);
  const heard: number[] = [];
  const stop = replica.onChange(() => heard.push(replica.state.lastEventAppliedIdx));
  replica.apply([event(0), event(1)]);
  replica.apply([]);
  replica.apply([event(2)]);
  stop();
  replica.apply([event(3)]);
  assert.deepEqual(heard, [1, 2]);
});

Deno.test("reached() resolves at once for the past, else with the event", async () => {
  const replica = new Replica(EMPTY_STATE);
  await replica.reached(-1, 1);
  let reached = false;
  const waiting = replica.reached(1, 20_000).then(() => reached = true);
  replica.apply([event(0)]);
  await Promise.resolve();
  assert.equal(reached, false);
  replica.apply([event(1)]);
  await waiting;
});

Deno.test("reached() gives up at its limit, and says where the replica stands", async () => {
  const replica = new Replica(EMPTY_STATE);
  replica.apply([event(0)]);
  await assert.rejects(replica.reached(5, 5), (thrown) => {
    assert.ok(thrown instanceof AppError);
    assert.equal(thrown.code, "timed_out");
    assert.equal(thrown.message, "Event 5 did not arrive within 5 ms: at 0");
    return true;
  });
});

Deno.test("a gap is refused, nobody is told, and the state stays", () => {
  const replica = new Replica(EMPTY_STATE);
  let heard = 0;
  replica.onChange(() => heard++);
  assert.throws(() => replica.apply([event(1)]), /event 0 is due/);
  assert.equal(replica.state, EMPTY_STATE);
  assert.equal(heard, 0);
});

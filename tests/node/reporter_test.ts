import assert from "node:assert/strict";
import type { LocalFacts } from "../../core/facts.ts";
import type { State } from "../../core/state.ts";
import { Replica } from "../../node/replica.ts";
import { Reporter } from "../../node/reporter.ts";
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
  taskId,
  taskOf,
} from "../support/fixtures.ts";

/** A reporter on a state that the test changes, and all facts that it told. */
function world(state: State = fold([nodeStarted(A), created(instanceOf("i"))])) {
  const replica = new Replica(state);
  const told: LocalFacts[] = [];
  const reporter = new Reporter(A, replica, (facts) => told.push(facts));
  const subjects = () => [...(told.at(-1)?.reports.keys() ?? [])];
  return { replica, reporter, told, subjects };
}

Deno.test("a report resolves when the state has it, and stays a fact", async () => {
  const { replica, reporter, told, subjects } = world();
  const idle = reported("i:0", "RunnerIdle");
  let done = false;
  const waiting = reporter.report(idle).then(() => done = true);
  await Promise.resolve();
  assert.equal(done, false);
  assert.deepEqual([...told[0]?.reports.values() ?? []], [idle]);
  replica.set(fold([idle], replica.state));
  await waiting;
  await reporter.report(nodeStarted(A));
  assert.deepEqual(subjects(), ["runner:i:0", "node"]);
});

Deno.test("what says nothing new resolves although no state changes", async () => {
  const { reporter } = world();
  await reporter.report(nodeStarted(A));
  await reporter.report(reported("gone:0", "RunnerShutdown"));
});

Deno.test("the end of a runner is forgotten once it is heard", async () => {
  const { replica, reporter, subjects } = world(
    fold([nodeStarted(A), created(instanceOf("i")), reported("i:0", "RunnerIdle")]),
  );
  const failed = reported("i:0", "RunnerFailed");
  const waiting = reporter.report(failed);
  assert.deepEqual(subjects(), ["runner:i:0"]);
  replica.set(fold([failed], replica.state));
  await waiting;
  await reporter.report(nodeStarted(A));
  assert.deepEqual(subjects(), ["node"]);
});

Deno.test("a node that is lost is a fact until it is reached again or has left", () => {
  const { replica, reporter, told } = world(fold([nodeStarted(A), nodeStarted(B), nodeStarted(C)]));
  const lost = () => [...told.at(-1)?.lostNodes ?? []];
  reporter.reach(B, true);
  assert.equal(told.length, 0, "who was never lost is no news");
  reporter.reach(B, false);
  assert.deepEqual(lost(), [B]);
  reporter.reach(B, false);
  assert.equal(told.length, 1);
  reporter.reach(B, true);
  assert.deepEqual(lost(), []);
  reporter.reach(B, false);
  replica.set(fold([{ type: "NodeTimedOut", nodeId: B }], replica.state));
  reporter.reach(C, false);
  assert.deepEqual(lost(), [C]);
});

Deno.test("a task is followed until it is forgotten, which is told once", () => {
  const { reporter, told } = world(
    fold([nodeStarted(A), created(instanceOf("i")), taskCreated(taskOf("t", "i"))]),
  );
  reporter.followTask(taskId("t"));
  reporter.forgetTask(taskId("t"));
  reporter.forgetTask(taskId("t"));
  assert.deepEqual(told.map(({ followedTasks }) => [...followedTasks]), [["t"], []]);
});

Deno.test("stopping resolves what waits; later reports go nowhere", async () => {
  const { reporter, told } = world();
  const waiting = reporter.report(reported("i:0", "RunnerIdle"));
  reporter.stop();
  await waiting;
  await reporter.report(reported("i:0", "RunnerReady"));
  assert.equal(told.length, 1);
});

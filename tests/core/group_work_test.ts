import assert from "node:assert/strict";
import { hasGroupWork, withoutWhom } from "../../core/group_work.ts";
import type { TaskStatus } from "../../core/task.ts";
import {
  A,
  B,
  created,
  fold,
  instanceOf,
  nodeStarted,
  reported,
  taskCreated,
  taskOf,
} from "../support/fixtures.ts";

const instance = instanceOf("i", [A, B]);
const ready = [reported("i:0", "RunnerReady"), reported("i:1", "RunnerReady")];
const base = [nodeStarted(A), nodeStarted(B), created(instance), created(instanceOf("j"))];

Deno.test("a group has work while a task of its instance is in flight", () => {
  const withTask = (id: string, taskStatus: TaskStatus) =>
    hasGroupWork(fold([...base, ...ready, taskCreated(taskOf("t", id, { taskStatus }))]), instance);
  assert.equal(withTask("i", "Pending"), true);
  assert.equal(withTask("i", "Running"), true);
  assert.equal(withTask("i", "Complete"), false);
  assert.equal(withTask("j", "Running"), false);
});

Deno.test("a group has work while it may be reading the prompt of another instance", () => {
  const prefill = { instanceId: instance.instanceId, nodeId: A };
  const withTask = (taskStatus: TaskStatus) => {
    const task = taskOf("t", "j", { taskStatus, prefill });
    return hasGroupWork(fold([...base, ...ready, taskCreated(task)]), instance);
  };
  assert.equal(withTask("Running"), true);
  assert.equal(withTask("Complete"), false);
});

Deno.test("a group has work while one of its ranks warms up", () => {
  const [, second] = ready;
  assert.ok(second);
  const warms = (type: "RunnerWarmingUp" | "RunnerLoaded") =>
    hasGroupWork(fold([...base, reported("i:0", type), second]), instance);
  assert.deepEqual([warms("RunnerWarmingUp"), warms("RunnerLoaded")], [true, false]);
});

Deno.test("withoutWhom() names the nodes whose ranks have not come", () => {
  const at = (...types: ("RunnerIdle" | "RunnerConnecting" | "RunnerConnected")[]) => {
    const reports = types.map((type, rank) => reported(`i:${rank}`, type));
    return withoutWhom(fold([nodeStarted(A), created(instance), ...reports]), instance);
  };
  assert.equal(at("RunnerConnecting", "RunnerConnected"), "");
  assert.equal(at("RunnerConnecting", "RunnerIdle"), " without node-b");
  assert.equal(at(), " without node-a and node-b");
});

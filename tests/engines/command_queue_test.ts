import assert from "node:assert/strict";
import type { RunnerCommand } from "../../core/frames.ts";
import { CommandQueue } from "../../engines/command_queue.ts";
import { taskId } from "../support/fixtures.ts";

const warmUp = (id: string): RunnerCommand => ({
  type: "StartWarmup",
  taskId: taskId(id),
  incarnation: 1,
});
const shutdown: RunnerCommand = { type: "Shutdown", taskId: taskId("end"), incarnation: 1 };

Deno.test("commands come out in the order in which they were given", async () => {
  const queue = new CommandQueue();
  queue.push(warmUp("a"));
  queue.push(warmUp("b"));
  assert.deepEqual(queue.poll(), warmUp("a"));
  assert.deepEqual(await queue.next(), warmUp("b"));
  assert.equal(queue.poll(), undefined);
});

Deno.test("next() waits for a command, and for the end", async () => {
  const queue = new CommandQueue();
  const first = queue.next();
  queue.push(warmUp("a"));
  assert.deepEqual(await first, warmUp("a"));
  const last = queue.next();
  queue.close();
  assert.equal(await last, "closed");
});

Deno.test("what waits is still taken after the queue has closed", async () => {
  const queue = new CommandQueue();
  queue.push(warmUp("a"));
  queue.close();
  assert.deepEqual(await queue.next(), warmUp("a"));
  assert.equal(queue.poll(), "closed");
  assert.equal(await queue.next(), "closed");
});

Deno.test("isEnding says that a Shutdown waits, or that nobody is left to give one", () => {
  const queue = new CommandQueue();
  queue.push(warmUp("a"));
  assert.equal(queue.isEnding, false);
  queue.push(shutdown);
  assert.equal(queue.isEnding, true);
  const orphan = new CommandQueue();
  orphan.close();
  assert.equal(orphan.isEnding, true);
});

const submit = (id: string): RunnerCommand => ({
  type: "TextGeneration",
  taskId: taskId(id),
  incarnation: 1,
  payload: { messages: [], sampling: {}, stop: [], seed: "1" },
});
const cancel = (id: string): RunnerCommand => ({
  type: "CancelTask",
  taskId: taskId(`cancel-${id}`),
  cancelledTaskId: taskId(id),
  incarnation: 1,
});

Deno.test("takeEnding() takes what ends something, in order, from behind all others", () => {
  const queue = new CommandQueue();
  for (const one of [submit("a"), cancel("a"), submit("b"), shutdown, cancel("b")]) queue.push(one);
  const taken = [queue.takeEnding(), queue.takeEnding(), queue.takeEnding(), queue.takeEnding()];
  assert.deepEqual(taken, [cancel("a"), shutdown, cancel("b"), undefined]);
  assert.equal(queue.size, 2);
  assert.deepEqual([queue.poll(), queue.poll()], [submit("a"), submit("b")]);
});

Deno.test("takeSubmits() takes a task as often as it waits, and leaves all others", () => {
  const queue = new CommandQueue();
  for (const one of [submit("a"), submit("b"), cancel("a"), submit("a")]) queue.push(one);
  assert.deepEqual(queue.takeSubmits(taskId("a")), [submit("a"), submit("a")]);
  assert.deepEqual(queue.takeSubmits(taskId("a")), []);
  assert.deepEqual([queue.poll(), queue.poll()], [submit("b"), cancel("a")]);
});

Deno.test("arrival() waits for a command, takes none, and ends with the queue", async () => {
  const queue = new CommandQueue();
  const order: string[] = [];
  const waiting = queue.arrival().then(() => order.push("arrived"));
  await Promise.resolve();
  order.push("given");
  queue.push(warmUp("a"));
  await waiting;
  assert.deepEqual([order, queue.size], [["given", "arrived"], 1]);
  queue.poll();
  const last = queue.arrival();
  queue.close();
  await last;
});

Deno.test("arrival() ends when it is nudged, before or while it waits, and once for each", async () => {
  const queue = new CommandQueue();
  queue.nudge();
  await queue.arrival();
  let isOver = false;
  const waiting = queue.arrival().then(() => isOver = true);
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(isOver, false);
  queue.nudge();
  await waiting;
  assert.equal(queue.poll(), undefined);
});

Deno.test("ending resolves with a Shutdown, or with the end of the queue", async () => {
  const told = new CommandQueue();
  told.push({ type: "Shutdown", taskId: taskId("end"), incarnation: 1 });
  await told.ending;
  const left = new CommandQueue();
  left.close();
  await left.ending;
});

import assert from "node:assert/strict";
import type { RunnerCommand } from "../../core/frames.ts";
import { CommandQueue } from "../../engines/command_queue.ts";
import { taskId } from "../support/cluster.ts";

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

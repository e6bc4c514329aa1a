import assert from "node:assert/strict";
import fc from "fast-check";
import { Channel } from "../../net/channel.ts";

/** All that waits and comes until the end. */
const readAll = <T>(channel: Channel<T>) => Array.fromAsync(channel);

/** Lets everything that can go on without a timer do so. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

Deno.test("messages come out in order, then the channel ends", async () => {
  const channel = new Channel<number>(10);
  for (const n of [1, 2, 3]) assert.equal(await channel.push(n), true);
  assert.equal(channel.size, 3);
  channel.end();
  assert.equal(channel.ended, true);
  assert.deepEqual(await readAll(channel), [1, 2, 3]);
});

Deno.test("push() waits at the capacity, and one more is let in for each one read", async () => {
  const channel = new Channel<number>(2);
  const reader = channel[Symbol.asyncIterator]();
  await channel.push(1);
  await channel.push(2);
  const done: number[] = [];
  void channel.push(3).then(() => done.push(3));
  void channel.push(4).then(() => done.push(4));
  await settled();
  assert.deepEqual(done, []);
  assert.equal((await reader.next()).value, 1);
  await settled();
  assert.deepEqual(done, [3]);
  assert.equal(channel.size, 2);
  assert.equal((await reader.next()).value, 2);
  await settled();
  assert.deepEqual(done, [3, 4]);
});

Deno.test("a writer does not overtake those that wait", async () => {
  const channel = new Channel<number>(1);
  const reader = channel[Symbol.asyncIterator]();
  const pushes = [channel.push(1), channel.push(2)];
  const first = reader.next();
  // The reader has taken 1 and the writer of 2 is not awake yet: there is room for a moment.
  pushes.push(channel.push(3));
  assert.equal((await first).value, 1);
  assert.equal((await reader.next()).value, 2);
  assert.equal((await reader.next()).value, 3);
  await Promise.all(pushes);
});

Deno.test("offer() takes a message whatever the capacity", () => {
  const channel = new Channel<number>(1);
  assert.equal(channel.offer(1), true);
  assert.equal(channel.offer(2), true);
  assert.equal(channel.size, 2);
});

Deno.test("after the end nothing is taken; a writer that waited is told so", async () => {
  const channel = new Channel<number>(1);
  await channel.push(1);
  const waiting = channel.push(2);
  channel.end();
  assert.equal(await waiting, false);
  assert.equal(await channel.push(3), false);
  assert.equal(channel.offer(4), false);
  assert.deepEqual(await readAll(channel), [1]);
});

Deno.test("clear() ends and forgets what waits", async () => {
  const channel = new Channel<number>(5);
  await channel.push(1);
  channel.clear();
  assert.equal(channel.size, 0);
  assert.deepEqual(await readAll(channel), []);
});

Deno.test("a reader that waits is woken by a message, by the end and by clear()", async () => {
  for (const finish of ["end", "clear"] as const) {
    const channel = new Channel<string>(5);
    const reading = readAll(channel);
    await settled();
    channel.offer("x");
    await settled();
    channel[finish]();
    assert.deepEqual(await reading, ["x"], finish);
  }
});

Deno.test("undefined is a message like any other", async () => {
  const channel = new Channel<number | undefined>(5);
  for (const message of [1, undefined, 2]) channel.offer(message);
  channel.end();
  assert.deepEqual(await readAll(channel), [1, undefined, 2]);
});

Deno.test("whatever the capacity and the pace, nothing is lost, doubled or overtaken", async () => {
  const pace = fc.array(fc.boolean(), { minLength: 1, maxLength: 60 });
  await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 4 }), pace, async (capacity, pace) => {
    const channel = new Channel<number>(capacity);
    const reader = channel[Symbol.asyncIterator]();
    const read: number[] = [];
    const reads: Promise<unknown>[] = [];
    let written = 0;
    for (const writes of pace) {
      if (writes) void channel.push(written++);
      else if (reads.length < written) {
        reads.push(reader.next().then(({ value }) => read.push(value)));
      } else await settled();
    }
    while (reads.length < written) reads.push(reader.next().then(({ value }) => read.push(value)));
    await Promise.all(reads);
    assert.deepEqual(read, Array.from({ length: written }, (_, n) => n));
    assert.equal(channel.size, 0);
  }));
});

import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import type { Event } from "../../core/events.ts";
import type { NodeId } from "../../core/ids.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { decodeMessage, encodeMessage, REPORT } from "../../net/topics.ts";
import { Reporter } from "../../node/reporter.ts";
import { A, nodeStarted } from "../support/cluster.ts";

/** A reporter, and a master that takes each message as `take` says. */
function world(take: (events: Event[]) => Promise<void> | void) {
  const transport = new MemoryNetwork().join(A);
  const messages: Event[][] = [];
  transport.handle(REPORT.protocol, async (body) => {
    const events = decodeMessage(REPORT.request, body);
    messages.push(events);
    await take(events);
    return encodeMessage({});
  });
  const master = (): NodeId => A;
  return { messages, reporter: new Reporter(transport, master), transport };
}

/** An event that can be told from others. */
const event = (n: number) => nodeStarted(A, n);
const numbers = (messages: Event[][]) =>
  messages.map((events) => events.map((one) => one.type === "NodeStarted" ? one.incarnation : -1));

Deno.test("a report resolves when the master has stored it", async () => {
  const stored = Promise.withResolvers<void>();
  const { reporter } = world(() => stored.promise);
  let done = false;
  const reported = reporter.report(event(1)).then(() => done = true);
  await Promise.resolve();
  assert.equal(done, false);
  stored.resolve();
  await reported;
});

Deno.test("reports arrive in order; what comes meanwhile goes in one message", async () => {
  const { reporter, messages } = world(() => {});
  await Promise.all([1, 2, 3, 4].map((n) => reporter.report(event(n))));
  assert.deepEqual(numbers(messages).flat(), [1, 2, 3, 4]);
  assert.equal(messages.length, 2);
});

Deno.test("a message holds 256 reports at most", async () => {
  const { reporter, messages } = world(() => {});
  await Promise.all(Array.from({ length: 600 }, (_, n) => reporter.report(event(n))));
  assert.ok(messages.every((events) => events.length <= 256));
  assert.deepEqual(numbers(messages).flat(), Array.from({ length: 600 }, (_, n) => n));
});

Deno.test("a report that failed is sent again, before those that came later", async () => {
  let refusals = 1;
  const { reporter, messages } = world(() => {
    if (refusals-- > 0) throw new AppError("internal", "the disk is full");
  });
  await Promise.all([reporter.report(event(1)), reporter.report(event(2))]);
  assert.deepEqual(numbers(messages), [[1], [1], [2]], "one at a time after a refusal");
});

Deno.test("stopping resolves what waits, also while it waits to try again", async () => {
  const refused = Promise.withResolvers<void>();
  const { reporter, messages } = world(() => {
    refused.resolve();
    throw new AppError("internal", "no");
  });
  const waiting = [reporter.report(event(1)), reporter.report(event(2))];
  await refused.promise;
  reporter.stop();
  await Promise.all(waiting);
  await reporter.report(event(3));
  assert.equal(messages.length, 1);
});

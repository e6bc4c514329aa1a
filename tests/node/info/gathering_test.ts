import { equal, rejects } from "node:assert/strict";
import { inTime } from "../../../node/info/gathering.ts";
import { FakeMachine } from "../../support/fake_machine.ts";

Deno.test("what comes in time is given, what does not is not waited for, and no timer is left", async () => {
  const sources = new FakeMachine();
  const stop = new AbortController();
  const options = { sources, signal: stop.signal, timeoutMs: 10 };
  equal(await inTime(Promise.resolve(7), options), 7);
  await rejects(inTime(Promise.reject(new Error("broken")), options), /broken/);
  await sources.pass();
  equal(sources.waitCount, 0);
  const late = inTime(new Promise(() => {}), options);
  await sources.pass(10);
  equal(await late, undefined);
  const stopped = inTime(new Promise(() => {}), options);
  stop.abort();
  equal(await stopped, undefined);
});

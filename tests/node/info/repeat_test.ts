import { deepEqual, equal } from "node:assert/strict";
import { repeat } from "../../../node/info/repeat.ts";
import { FakeMachine } from "../../support/fake_machine.ts";

Deno.test("work is done at once, then at each interval, and a failure is no end", async () => {
  const machine = new FakeMachine();
  const stop = new AbortController();
  const at: number[] = [];
  const work = () => {
    at.push(machine.now);
    return at.length === 2 ? Promise.reject(new Error("a bad day")) : Promise.resolve();
  };
  const ended = repeat("it", work, { everyMs: 10, sources: machine, signal: stop.signal });
  await machine.pass(35);
  deepEqual(at, [0, 10, 20, 30]);
  stop.abort();
  await ended;
  equal(machine.waitCount, 0);
});

Deno.test("work that says it is over is not done again, and the interval may change", async () => {
  const machine = new FakeMachine();
  const at: number[] = [];
  const work = () => {
    at.push(machine.now);
    return Promise.resolve(at.length === 3 ? "over" as const : undefined);
  };
  const everyMs = () => at.length === 1 ? 5 : 50;
  const { signal } = new AbortController();
  const ended = repeat("it", work, { everyMs, sources: machine, signal });
  await machine.pass(1_000);
  await ended;
  deepEqual(at, [0, 5, 55]);
});

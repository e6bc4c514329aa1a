import { deepEqual, equal } from "node:assert/strict";
import { keepFollowing, RESTART_MS_MAX } from "../../../node/info/keep_following.ts";
import { FakeMachine } from "../../support/fake_machine.ts";

const CRASH = { ok: false as const, isMissing: false, reason: "it ended with 1" };

/** A program `meter` that is followed; a line is of use when it says `good`. */
function followed(machine: FakeMachine) {
  const stop = new AbortController();
  let endCount = 0;
  const ended = keepFollowing(["meter"], {
    sources: machine,
    signal: stop.signal,
    onLine: (line) => line === "good",
    onEnd: () => endCount++,
  });
  return { stop, ended, endCount: () => endCount };
}

Deno.test("a program that crashes is started again, later each time, until it is of use", async () => {
  const machine = new FakeMachine();
  machine.commands.set("meter", "");
  const { stop, ended, endCount } = followed(machine);
  const starts: number[] = [];
  const crash = async (afterMs: number) => {
    await machine.pass();
    machine.followers.get("meter")?.end(CRASH);
    await machine.pass(afterMs - 1);
    equal(machine.followers.size, 0, `${afterMs}`);
    await machine.pass(1);
    starts.push(machine.ran.length);
  };
  await crash(1_000);
  await crash(2_000);
  await crash(4_000);
  machine.say("meter", "bad");
  await crash(8_000);
  machine.say("meter", "good");
  await crash(1_000);
  deepEqual(starts, [2, 3, 4, 5, 6]);
  for (const ms of [2_000, 4_000, 8_000, 16_000, 32_000]) await crash(ms);
  await crash(RESTART_MS_MAX);
  await crash(RESTART_MS_MAX);
  equal(endCount(), 12);
  stop.abort();
  await ended;
  equal(machine.followers.size + machine.waitCount, 0);
});

Deno.test("a program that is not there is not sought again", async () => {
  const machine = new FakeMachine();
  const { ended, endCount } = followed(machine);
  await ended;
  deepEqual([machine.ran, endCount()], [["meter"], 1]);
});

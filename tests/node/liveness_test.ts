import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { Liveness, LIVENESS_MS, type LivenessOptions } from "../../node/liveness.ts";
import { type ProcessState, processState } from "../../node/process_state.ts";
import { eventually } from "../support/eventually.ts";
import { FakeTime } from "../support/fake_time.ts";
import { PeerRing } from "../support/group_peer.ts";
import { GROUP_PEER_MAIN } from "../support/programs.ts";

const EVERY_MS = 20;

/** A process that sleeps, and what is found out about it. */
class Sleeper implements Disposable {
  readonly reasons: string[] = [];
  readonly #child = spawn("sleep", ["60"], { stdio: "ignore" });
  readonly liveness = new Liveness({
    pid: () => this.pid,
    onDead: (reason) => this.reasons.push(reason),
    everyMs: EVERY_MS,
  });

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  [Symbol.dispose](): void {
    this.liveness.rest();
    Deno.kill(this.pid, "SIGKILL");
  }
}

Deno.test("a process that sleeps although it must compute is found out", async () => {
  using sleeper = new Sleeper();
  await eventually("it sleeps", () => processState(sleeper.pid)?.isAsleep === true);
  sleeper.liveness.watch(true);
  await eventually("it is found out", () => sleeper.reasons.length > 0);
  assert.match(sleeper.reasons[0] ?? "", /has work and did nothing/);
});

Deno.test("a process that waits for others may sleep, but not be stopped", async () => {
  using sleeper = new Sleeper();
  sleeper.liveness.watch();
  let looks = 0;
  // Many looks later it is still left alone.
  await eventually("it was looked at", () => ++looks > 10);
  assert.deepEqual(sleeper.reasons, []);
  Deno.kill(sleeper.pid, "SIGSTOP");
  await eventually("it is found out", () => sleeper.reasons.length > 0);
  assert.match(sleeper.reasons[0] ?? "", /is stopped/);
});

/** What comes of looks at a process that is as `states` say, one after the other. */
async function looksAt(
  states: readonly (Partial<ProcessState> | undefined)[],
  { mustCompute, ...options }: Partial<LivenessOptions> & { mustCompute?: boolean } = {},
): Promise<string[]> {
  using time = new FakeTime();
  const reasons: string[] = [];
  const left = [...states];
  const asleep = { isStopped: false, isAsleep: true, cpuTicks: 7, sleeps: 3 };
  const liveness = new Liveness({
    pid: () => 1,
    onDead: (reason) => reasons.push(reason),
    readProcess: () => {
      const next = left.shift();
      return next && { ...asleep, ...next };
    },
    ...options,
  });
  liveness.watch(mustCompute);
  await time.pass(states.length * LIVENESS_MS);
  liveness.rest();
  assert.equal(left.length, 0, "it was looked at so often");
  return reasons;
}

const HANGS = `it has work and did nothing for ${LIVENESS_MS / 1000} s`;
const owes = () => true;

Deno.test("a process that keeps an answer back hangs, unless it waits for another or computes", async () => {
  assert.deepEqual(await looksAt([{}, {}], { owes }), [HANGS]);
  assert.deepEqual(await looksAt([{}, {}], { owes: () => false }), []);
  const waits = Array.from({ length: 30 }, (_, at) => ({ sleeps: at * 2 }));
  assert.deepEqual(await looksAt(waits, { owes }), [], "it wakes for each sign of life");
  assert.deepEqual(await looksAt([...waits, { sleeps: 58 }], { owes }), [HANGS], "none came");
  assert.deepEqual(await looksAt([{ cpuTicks: 1 }, { cpuTicks: 2 }], { owes }), []);
  assert.deepEqual(await looksAt([{ isAsleep: false }, {}], { owes }), []);
});

Deno.test("a process that waits for nobody hangs when it sleeps, however often it wakes", async () => {
  assert.deepEqual(await looksAt([{ sleeps: 1 }, { sleeps: 2 }], { mustCompute: true }), [HANGS]);
});

Deno.test("where the system says nothing of processes, nothing is said of them", async () => {
  assert.deepEqual(await looksAt([undefined, undefined], { owes, mustCompute: true }), []);
});

Deno.test("a node that stood still itself looks again before it blames a process", async () => {
  // The second look comes an hour late, and the process has had no more time to run than this one.
  for (const seen of [{ sleeps: 1 }, { isStopped: true }]) {
    const times = [0, 2_000, 3_600_000, 3_602_000];
    const options = { owes, uptime: () => times.shift() ?? 0 };
    assert.deepEqual(await looksAt([{ sleeps: 1 }, seen, { sleeps: 9 }], options), []);
  }
});

// Our own plans sum on the main thread, MLX on one of its own.
for (const name of ["sumByPlan", "sumByMlx"] as const) {
  Deno.test(`a rank that waits in ${name} for one that lives is woken by its signs of life`, async () => {
    await using ring = await PeerRing.start(GROUP_PEER_MAIN, ["studio", "mini"]);
    const waiting = ring.at(0);
    const sum = waiting.refusal({ type: "extra", name, options: { shape: [1, 64] } });
    sum.catch(() => {}); // It ends with the ring.
    const sleeps = () => processState(waiting.pid)?.sleeps ?? 0;
    await eventually("it waits", () => processState(waiting.pid)?.isAsleep === true);
    const before = sleeps();
    // To take the command up it wakes, too, but not so often.
    await eventually("it has been woken again and again", () => sleeps() >= before + 5);
  });
}

Deno.test("processState() knows this process, and nothing of one that is gone", () => {
  const here = processState(Deno.pid);
  assert.ok(here && !here.isStopped && here.cpuTicks > 0 && here.sleeps > 0);
  assert.equal(processState(2 ** 30), undefined);
});

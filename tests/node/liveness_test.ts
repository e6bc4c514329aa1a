import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { Liveness } from "../../node/liveness.ts";
import { processState } from "../../node/process_state.ts";
import { eventually } from "../support/eventually.ts";

const EVERY_MS = 20;

/** A process that sleeps, and what is found out about it. */
class Sleeper implements Disposable {
  readonly reasons: string[] = [];
  readonly #child = spawn("sleep", ["60"], { stdio: "ignore" });
  readonly liveness = new Liveness(() => this.pid, (reason) => this.reasons.push(reason), EVERY_MS);

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

Deno.test("processState() knows this process, and nothing of one that is gone", () => {
  const here = processState(Deno.pid);
  assert.ok(here && !here.isStopped && here.cpuTicks > 0);
  assert.equal(processState(2 ** 30), undefined);
});

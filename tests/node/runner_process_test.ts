import assert from "node:assert/strict";
import type { RunnerCommand, RunnerReport } from "../../core/frames.ts";
import type { RunnerLimits, StopLadder } from "../../node/runner_limits.ts";
import { RunnerProcess } from "../../node/runner_process.ts";
import { TaskId } from "../../core/ids.ts";
import { taskId } from "../support/fixtures.ts";
import { isAlive } from "../support/eventually.ts";
import { ODD_RUNNER, RUNNER_MAIN } from "../support/programs.ts";

const INCARNATION = 5;

/** Short enough for a test, long enough to tell the steps apart. */
const LADDER: StopLadder = { askMs: 100, termMs: 100 };

/** A process that behaves as `args` say, and all that its supervisor hears of it. */
class Watched {
  readonly process: RunnerProcess;
  readonly heard: string[] = [];
  readonly failures: { reason: string; diagnostics: readonly string[] }[] = [];
  code: string | undefined;
  readonly endings: (readonly [string, string | undefined])[] = [];
  stops = 0;
  readonly #ending = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  readonly #up = Promise.withResolvers<void>();

  constructor(
    args: readonly string[],
    limits: RunnerLimits = {},
    command: string = Deno.execPath(),
  ) {
    const env = Deno.env.toObject();
    const launch = { command, args: ["run", "-A", "--no-check", ODD_RUNNER, ...args], env };
    this.process = new RunnerProcess(launch, INCARNATION, {
      report: (report) => this.#report(report),
      ending: ({ reason, code }) => {
        this.endings.push([reason, code]);
        this.#ending.resolve();
      },
      failed: ({ reason, diagnostics, code }) => {
        this.failures.push({ reason, diagnostics });
        this.code = code;
        this.#over.resolve();
      },
      stopped: () => {
        this.stops++;
        this.#over.resolve();
      },
    }, limits);
  }

  /** Resolves with its first report. */
  async up(): Promise<void> {
    await this.#up.promise;
  }

  /** Resolves once it is told that the process is being ended. */
  async ending(): Promise<void> {
    await this.#ending.promise;
  }

  /** The one failure of the process, once it has ended. */
  async failure() {
    await this.#over.promise;
    // Whatever else the process has to say of its end comes in this turn.
    await new Promise((resolve) => setTimeout(resolve));
    assert.equal(this.failures.length, 1);
    assert.equal(this.stops, 0);
    const [failure] = this.failures;
    assert.ok(failure);
    return failure;
  }

  #report(report: RunnerReport): void {
    this.heard.push(report.type === "StatusUpdated" ? report.status.type : report.type);
    this.#up.resolve();
  }
}

const shutdown: RunnerCommand = {
  type: "Shutdown",
  taskId: taskId("end"),
  incarnation: INCARNATION,
};

Deno.test("an exit that nobody asked for is one failure, with its last lines", async () => {
  const runner = new Watched(["exit", "7"]);
  assert.deepEqual(await runner.failure(), {
    reason: "Runner terminated (exit 7)",
    diagnostics: ["loading", "last words"],
  });
  assert.deepEqual(runner.heard, ["RunnerIdle"], "its last report came before its end");
});

Deno.test("an exit with 0 that nobody asked for is a failure too", async () => {
  assert.equal((await new Watched(["exit", "0"]).failure()).reason, "Runner terminated (exit 0)");
});

Deno.test("a signal is named", async () => {
  for (const signal of ["SIGKILL", "SIGABRT"]) {
    const { reason } = await new Watched(["signal", signal]).failure();
    assert.equal(reason, `Runner terminated (signal ${signal})`);
  }
});

Deno.test("the runner's own last words are the reason, and no report of their own", async () => {
  const runner = new Watched(["error", "no such tensor"]);
  const { reason } = await runner.failure();
  assert.equal(reason, "Runner terminated (exit 1): no such tensor");
  assert.deepEqual(runner.heard, []);
});

Deno.test("garbage on the channel kills the runner, and is the reason", async () => {
  const garbage = await new Watched(["garbage"]).failure();
  assert.match(
    garbage.reason,
    /^Runner terminated \(signal SIGKILL\): its channel carried garbage/,
  );
  const nonsense = await new Watched(["nonsense"]).failure();
  assert.match(nonsense.reason, /its channel carried garbage: .*invalid/s);
  assert.ok(nonsense.reason.length < 400);
});

Deno.test("half a frame at the end is no report and no crash of ours", async () => {
  const runner = new Watched(["half"]);
  assert.equal((await runner.failure()).reason, "Runner terminated (exit 2)");
  assert.deepEqual(runner.heard, []);
});

Deno.test("a report of another incarnation is ignored", async () => {
  const runner = new Watched(["stale"]);
  await runner.failure();
  assert.deepEqual(runner.heard, ["RunnerIdle"]);
});

for (const how of ["lines", "one line"] as const) {
  Deno.test(`a stderr flood of 20 MiB in ${how} is kept in bounded memory`, async () => {
    const { reason, diagnostics } = await new Watched(["flood", how]).failure();
    assert.equal(reason, "Runner terminated (exit 4)");
    assert.ok(diagnostics.length >= 1 && diagnostics.length <= 41);
    assert.ok(diagnostics.every((line) => line.length <= 2_000));
  });
}

Deno.test("a runner that cannot be started is a failure that says so, told once", async () => {
  const { reason } = await new Watched([], {}, "/no/such/program").failure();
  assert.match(reason, /cannot be started.*ENOENT/);
});

Deno.test("a limit that is reached kills the runner and is the reason", async () => {
  const runner = new Watched(["silent"]);
  runner.process.arm({ ms: 20_000, reason: () => "a step took too long" });
  const reason = () => "Model loading took too long";
  runner.process.arm({ ms: 20, reason, code: "group_broken" });
  const failure = await runner.failure();
  assert.equal(runner.code, "group_broken");
  assert.match(failure.reason, /\(signal SIGKILL\): Model loading took too long$/);
});

Deno.test("a disarmed limit does nothing", async () => {
  const runner = new Watched(["polite"]);
  runner.process.arm({ ms: 5, reason: () => "a step took too long" });
  runner.process.disarm();
  await runner.up();
  await runner.process.stop(LADDER, shutdown);
  assert.deepEqual([runner.stops, runner.failures], [1, []]);
});

Deno.test("refuse() is a failure for the reason alone: it is none of the process", async () => {
  const runner = new Watched(["silent"]);
  runner.process.refuse("its files are gone");
  runner.process.kill("again");
  assert.equal((await runner.failure()).reason, "its files are gone");
});

Deno.test("kill() counts as a failure, with the first reason that was given", async () => {
  const runner = new Watched(["silent"]);
  runner.process.kill("its files are gone");
  runner.process.kill("again");
  const { reason } = await runner.failure();
  assert.equal(reason, "Runner terminated (signal SIGKILL): its files are gone");
});

Deno.test("who is stopped while it ends for a reason of its own has failed, for that reason", async () => {
  const killed = new Watched(["silent"]);
  await killed.up();
  killed.process.kill("it is stopped (SIGSTOP)");
  await killed.process.stop(LADDER, shutdown);
  const { reason } = await killed.failure();
  assert.equal(reason, "Runner terminated (signal SIGKILL): it is stopped (SIGSTOP)");
  const failing = new Watched(["failing", "out of memory"]);
  await failing.up();
  await failing.process.stop({ askMs: 20_000, termMs: 20_000 }, shutdown);
  const told = await failing.failure();
  assert.equal(told.reason, "Runner terminated (exit 1): out of memory");
  const hurried = new Watched(["stubborn"]);
  await hurried.up();
  const stopped = hurried.process.stop({ askMs: 20_000, termMs: 20_000 });
  hurried.process.kill("too late");
  await Promise.all([stopped, hurried.process.stop(LADDER)]);
  assert.deepEqual([hurried.stops, hurried.failures], [1, []]);
});

Deno.test("commands arrive; a runner that is asked to leave has not failed", async () => {
  const runner = new Watched(["polite"]);
  await runner.up();
  runner.process.send({ type: "StartWarmup", taskId: taskId("w"), incarnation: INCARNATION });
  await runner.process.stop({ askMs: 20_000, termMs: 20_000 }, shutdown);
  assert.deepEqual(runner.heard, ["RunnerIdle", "Ack", "Ack"]);
  assert.deepEqual([runner.stops, runner.failures], [1, []]);
});

Deno.test("without a Shutdown the ladder begins with SIGTERM", async () => {
  const runner = new Watched(["polite"]);
  await runner.up();
  await runner.process.stop({ askMs: 20_000, termMs: 20_000 });
  assert.deepEqual([runner.heard, runner.stops], [["RunnerIdle"], 1]);
});

Deno.test("a child that ignores Shutdown and SIGTERM gets SIGKILL in time", async () => {
  const runner = new Watched(["stubborn"]);
  await runner.up();
  const { pid } = runner.process;
  assert.ok(pid !== undefined && await isAlive(pid));
  const started = performance.now();
  const stopping = runner.process.stop(LADDER, shutdown);
  await Promise.all([stopping, runner.process.stop(LADDER, shutdown)]);
  assert.ok(performance.now() - started >= LADDER.askMs + LADDER.termMs - 5, "not before its time");
  assert.equal(await isAlive(pid), false);
  assert.deepEqual([runner.stops, runner.failures], [1, []]);
});

Deno.test("a runner that uses RDMA is asked to end, and killed last, with a warning", async () => {
  const polite = new Watched(["polite"], { rdmaTermMs: 20_000 });
  await polite.up();
  polite.process.kill("a step took longer than 60 s");
  const { reason } = await polite.failure();
  assert.equal(reason, "Runner terminated (exit 0): a step took longer than 60 s");
  const stubborn = new Watched(["stubborn"], { rdmaTermMs: 50 });
  await stubborn.up();
  stubborn.process.kill("its group broke");
  const told = await stubborn.failure();
  assert.match(
    told.reason,
    /\(signal SIGKILL\): its group broke; it was killed 0\.05 s after SIGTERM: .*restart the machine/,
  );
  const stopped = new Watched(["stubborn"], { rdmaTermMs: 300 });
  await stopped.up();
  const startedAt = performance.now();
  await stopped.process.stop({ askMs: 0, termMs: 20 });
  assert.ok(performance.now() - startedAt >= 295, "the ladder's own time is too short for RDMA");
  assert.deepEqual([stopped.stops, stopped.failures], [1, []]);
});

Deno.test("that a runner which uses RDMA is being ended is told at once, and nothing after it", async () => {
  const chatty = new Watched(["chatty"], { rdmaTermMs: 20_000 });
  await chatty.up();
  chatty.process.arm({ ms: 1, reason: () => "no step was finished", code: "group_broken" });
  await chatty.ending();
  assert.deepEqual([chatty.endings, chatty.failures], [
    [["no step was finished", "group_broken"]],
    [],
  ]);
  const { pid } = chatty.process;
  assert.ok(pid !== undefined && await isAlive(pid));
  chatty.process.kill("again");
  chatty.process.send(shutdown);
  assert.match((await chatty.failure()).reason, /: no step was finished$/);
  assert.deepEqual([chatty.endings.length, chatty.heard], [1, ["RunnerIdle"]]);
  // Where it is gone at once, that is told alone; so is an end that somebody asked for.
  const other = new Watched(["silent"]);
  other.process.kill("its files are gone");
  await other.failure();
  const asked = new Watched(["chatty"], { rdmaTermMs: 20_000 });
  await asked.up();
  const stopped = asked.process.stop({ askMs: 20_000, termMs: 20_000 }, shutdown);
  asked.process.kill("too late");
  asked.process.kill("once more");
  await stopped;
  assert.deepEqual([other.endings, asked.endings, asked.failures], [[], [], []]);
});

Deno.test("a runner that keeps an answer back and computes nothing hangs", async () => {
  const deaf = new Watched(["silent"], { livenessMs: 30, hangMs: 60 });
  await deaf.up();
  deaf.process.send({ type: "Ping", taskId: taskId("p"), incarnation: INCARNATION });
  assert.equal(deaf.process.isAnswering, false);
  assert.match((await deaf.failure()).reason, /it has work and did nothing/);
});

Deno.test("where nothing is seen of a runner, the answer to a ping has a limit", async () => {
  const unseen = { livenessMs: 10, hangMs: 20, readProcess: () => undefined, unseenHangMs: 100 };
  const deaf = new Watched(["silent"], unseen);
  await deaf.up();
  deaf.process.ping(taskId("p"));
  assert.match((await deaf.failure()).reason, /it has answered nothing for 0\.1 s$/);
});

Deno.test("a runner that is seen to compute may take its time to answer a ping", async () => {
  const computes = { isStopped: false, isAsleep: false, cpuTicks: 1, sleeps: 1 };
  const limits = { livenessMs: 5, hangMs: 0, readProcess: () => computes, unseenHangMs: 10 };
  const busy = new Watched(["silent"], { ...limits, ackTimeoutMs: 100 });
  await busy.up();
  busy.process.ping(taskId("p"));
  // What it is told has a limit all the same.
  busy.process.send(shutdown);
  assert.match((await busy.failure()).reason, /Shutdown was not acknowledged within 0\.1 s$/);
});

Deno.test("what stderr says of the end is part of the reason, and the code is told", async () => {
  const said = "[ring] Receiving from socket 7 failed with errno 104\n";
  const { reason } = await new Watched(["stderr", said]).failure();
  assert.match(reason, /\(exit 5\): MLX's ring could not receive from socket 7: ECONNRESET/);
  const broken = new Watched(["broken", "Rank 1 is gone"]);
  assert.equal((await broken.failure()).reason, "Runner terminated (exit 1): Rank 1 is gone");
  assert.equal(broken.code, "group_broken");
});

Deno.test("after its end a runner is sent nothing, and stopping it is at once", async () => {
  const runner = new Watched(["exit", "1"]);
  await runner.failure();
  runner.process.send(shutdown);
  runner.process.kill("too late");
  await runner.process.stop(LADDER, shutdown);
  assert.equal(runner.failures.length, 1);
});

Deno.test("a runner that does not acknowledge is killed, however many commands follow", async () => {
  const failure = Promise.withResolvers<string>();
  const up = Promise.withResolvers<void>();
  const runner = new RunnerProcess(
    {
      command: Deno.execPath(),
      args: ["run", "-A", "--no-check", RUNNER_MAIN],
      env: { ...Deno.env.toObject(), EXO_ENGINE: "fake" },
    },
    1,
    {
      report: () => up.resolve(),
      ending: () => {},
      failed: ({ reason }) => failure.resolve(reason),
      stopped: () => {},
    },
    { ackTimeoutMs: 300 },
  );
  await up.promise;
  Deno.kill(runner.pid ?? 0, "SIGSTOP");
  const ask = () =>
    runner.send({
      type: "CancelTask",
      taskId: TaskId.parse(crypto.randomUUID()),
      cancelledTaskId: taskId("t"),
      incarnation: 1,
    });
  const asking = setInterval(ask, 50);
  ask();
  assert.match(await failure.promise, /CancelTask was not acknowledged within 0.3 s/);
  clearInterval(asking);
});

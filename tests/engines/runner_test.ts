/**
 * The exact order of events of spec worker-engines §4.1, with the fake engine. Two things differ
 * from the table: a chat streams Accepted and PrefillProgress before its tokens and ends in a
 * Finish chunk of its own (design, streamed answers), and an illegal command is refused.
 */
import assert from "node:assert/strict";
import type { z } from "zod";
import type { RunnerCommand, RunnerReport } from "../../core/frames.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { CommandQueue } from "../../engines/command_queue.ts";
import type { Builder, Engine, TaskResponse } from "../../engines/engine.ts";
import { FakeBuilder, type FakeScript } from "../../engines/fake.ts";
import { Runner } from "../../engines/runner.ts";
import { cardOf, instanceOf, taskId } from "../support/fixtures.ts";

const HI = { tokens: ["hi"] };
const stamp = { incarnation: 7 };
const [shard] = Object.values(
  instanceOf("i", ["n" as never], { card: cardOf({ nLayers: 32 }) }).shardAssignments.runnerToShard,
);
assert.ok(shard);

const hosts = [{ ip: "127.0.0.1", port: 50_000 }, { ip: "127.0.0.1", port: 50_001 }];
const init: RunnerCommand = {
  type: "ConnectToGroup",
  taskId: taskId("init"),
  ...stamp,
  group: { groupId: "i/7.7", rank: 0, size: 2, names: ["a", "b"], link: { type: "ring", hosts } },
};
const load: RunnerCommand = {
  type: "LoadModel",
  taskId: taskId("load"),
  ...stamp,
  modelPath: "/model",
  shard,
  config: {},
};
const warmUp: RunnerCommand = { type: "StartWarmup", taskId: taskId("warm"), ...stamp };
const shutdown: RunnerCommand = { type: "Shutdown", taskId: taskId("end"), ...stamp };

function chat(id: string, fields: Partial<TextGenerationPayload> = {}): RunnerCommand {
  const messages = [{ role: "user" as const, content: "hello" }];
  const payload = { messages, sampling: {}, stop: [], seed: "1", ...fields };
  return { type: "TextGeneration", taskId: taskId(id), ...stamp, payload };
}

function cancel(id: string): RunnerCommand {
  const cancelledTaskId = taskId(id);
  return { type: "CancelTask", taskId: taskId(`cancel-${id}`), cancelledTaskId, ...stamp };
}

/** One report in a few words. */
function line(report: RunnerReport): string {
  switch (report.type) {
    case "StatusUpdated": {
      const { status } = report;
      const name = status.type.replace("Runner", "");
      return status.type === "RunnerLoading"
        ? `${name}(${status.layersLoaded},${status.totalLayers})`
        : name;
    }
    case "Ack":
      return `ack ${report.taskId}`;
    case "TaskUpdated":
      return `${report.taskId} ${report.taskStatus}`;
    case "ChunkGenerated":
      return `${report.taskId}: ${
        report.chunk.type === "Token" ? `"${report.chunk.text}"` : report.chunk.type
      }`;
    case "StatsUpdated":
      return `stats: ${report.stats.running} running`;
    case "TaskTraced":
      return `${report.taskId} traced`;
    case "RunnerError":
      return report.reason;
  }
}

interface Run {
  readonly lines: string[];
  readonly reports: RunnerReport[];
  readonly error: unknown;
}

/** A builder whose group stands at once. */
class Grouped extends FakeBuilder {
  override connect(): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * All reports of a runner that is given `commands` at its start; `then` gives more at the moment
 * of a report. Ends when the runner has, or when it has nothing left to do.
 */
async function run(
  commands: readonly RunnerCommand[],
  { script = HI, builder = new Grouped(script), turnMs = 1_000, then = {} }: {
    script?: z.input<typeof FakeScript>;
    builder?: Builder;
    /** What the clock gains at each look. */
    turnMs?: number;
    then?: Readonly<Record<string, RunnerCommand | readonly RunnerCommand[]>>;
  } = {},
): Promise<Run> {
  const queue = new CommandQueue();
  const reports: RunnerReport[] = [];
  const lines: string[] = [];
  const emit = (report: RunnerReport) => {
    reports.push(report);
    // How the engine is doing is told by the clock, of which most tests know nothing.
    if (report.type === "StatsUpdated") return;
    const said = line(report);
    if (!lines.includes(said)) { for (const next of [then[said] ?? []].flat()) queue.push(next); }
    lines.push(said);
  };
  for (const command of commands) queue.push(command);
  const breathe = () => Promise.resolve();
  let ms = 0;
  const now = () => ms += turnMs;
  const runner = new Runner({ ...stamp, builder, commands: queue, emit, breathe, now });
  let error: unknown;
  let ended = false;
  const running = runner.run().catch((cause) => error = cause).finally(() => ended = true);
  // Fake engines need no timers: a runner that is quiet for so long waits for a command.
  for (let turn = 0, quiet = 0; !ended && quiet < 50 && turn < 100_000; turn++) {
    const before = lines.length;
    await Promise.resolve();
    quiet = lines.length === before ? quiet + 1 : 0;
  }
  queue.close();
  await running;
  return { lines, reports, error };
}

const LOADED = ["load Running", "Loading(0,32)", "ack load", "Loading(1,1)", "load Complete"];
const UP = ["Idle", ...LOADED, "Loaded", "warm Running", "WarmingUp", "ack warm", "warm Complete"];
const chatOf = (id: string) => [
  `${id} Running`,
  "Running",
  `ack ${id}`,
  `${id}: Accepted`,
  `${id}: PrefillProgress`,
  `${id}: "hi"`,
  `${id}: Finish`,
  `${id} Complete`,
  "Ready",
];
const END = ["end Running", "ShuttingDown", "ack end", "end Complete", "Shutdown"];

/** What a runner says after it has become Ready. */
async function afterUp(
  commands: readonly RunnerCommand[],
  options: Parameters<typeof run>[1] = {},
): Promise<string[]> {
  const { lines, error } = await run([load, warmUp, ...commands], options);
  assert.equal(error, undefined);
  assert.deepEqual(lines.slice(0, UP.length + 1), [...UP, "Ready"]);
  return lines.slice(UP.length + 1);
}

Deno.test("§4.1: the whole life of a runner, in its exact order", async () => {
  const { lines, error } = await run([init, load, warmUp, chat("t")], {
    then: { "t Complete": shutdown },
  });
  assert.equal(error, undefined);
  const connected = ["init Running", "Connecting", "ack init", "init Complete", "Connected"];
  assert.deepEqual(lines, ["Idle", ...connected, ...UP.slice(1), "Ready", ...chatOf("t"), ...END]);
});

Deno.test("§4.1: a single rank loads from Idle", async () => {
  const { lines } = await run([load]);
  assert.deepEqual(lines, ["Idle", ...LOADED, "Loaded"]);
});

Deno.test("every report carries the incarnation", async () => {
  const { reports } = await run([load, warmUp, chat("t")]);
  assert.ok(reports.length > 15);
  for (const { incarnation } of reports) assert.equal(incarnation, 7);
});

Deno.test("several requests are served first come, first served, Running once", async () => {
  const lines = await afterUp([chat("t"), chat("u"), chat("v")]);
  const [finished, accepted] = ["Complete", "Accepted"].map((word) =>
    lines.filter((one) => one.endsWith(word)).map((one) => one[0])
  );
  assert.deepEqual(finished, ["t", "u", "v"]);
  assert.deepEqual(accepted, ["t", "u", "v"]);
  assert.equal(lines.filter((one) => one === "Running").length, 1);
  assert.equal(lines.filter((one) => one === "Ready").length, 1);
  assert.equal(lines.at(-1), "Ready");
});

Deno.test("a request that comes in mid-stream is accepted before the stream ends", async () => {
  const lines = await afterUp([chat("t")], {
    script: { tokens: ["a", "b", "c", "d"] },
    then: { 't: "a"': chat("u") },
  });
  assert.ok(lines.indexOf("u: Accepted") < lines.indexOf('t: "d"'));
  assert.ok(lines.indexOf("t Complete") < lines.indexOf('u: "a"'));
});

Deno.test("a request given twice is acknowledged twice and served once", async () => {
  const lines = await afterUp([chat("t"), chat("t")], { script: { tokens: ["a", "b", "c"] } });
  assert.equal(lines.filter((one) => one === "ack t").length, 2);
  assert.equal(lines.filter((one) => one === "t: Accepted").length, 1);
  assert.equal(lines.filter((one) => one === "t Complete").length, 1);
});

Deno.test("cancel of a queued request drops it, and touches no other", async () => {
  const lines = await afterUp([chat("t"), chat("u")], { then: { "u: Accepted": cancel("u") } });
  const ofU = lines.filter((one) => /\bu\b/.test(one));
  assert.deepEqual(ofU, ["u Running", "ack u", "u: Accepted", "ack cancel-u", "u Cancelled"]);
  assert.ok(lines.includes("t Complete"));
  assert.equal(lines.at(-1), "Ready");
});

for (const [stage, moment] of [["prefill", "t: PrefillProgress"], ["decode", 't: "hi"']] as const) {
  Deno.test(`cancel in ${stage} takes effect within one step`, async () => {
    const lines = await afterUp([chat("t")], {
      script: { ...HI, endless: true },
      then: { [moment]: cancel("t") },
    });
    const at = lines.indexOf("ack cancel-t");
    assert.ok(at > lines.indexOf(moment));
    assert.deepEqual(lines.slice(at), ["ack cancel-t", "t Cancelled", "Ready"]);
    const between = lines.slice(lines.indexOf(moment) + 1, at);
    assert.ok(between.length <= 1, `said meanwhile: ${between.join(", ")}`);
  });
}

/** A crowd of requests, of which the engine has a place for each. */
const CROWD = Array.from({ length: 64 }, (_, n) => `t${n}`);
const crowd = CROWD.map((id) => chat(id));
const ROOMY = { ...HI, endless: true, queueMax: CROWD.length };

/** What is said before the first step that follows `moment`. */
function beforeNextStep(lines: readonly string[], moment: string): readonly string[] {
  const after = lines.slice(lines.indexOf(moment) + 1);
  const step = after.findIndex((one) => /: ("hi"|PrefillProgress)$/.test(one));
  return step < 0 ? after : after.slice(0, step);
}

Deno.test("all requests that come at once are accepted between two steps", async () => {
  const { lines } = await run([load, warmUp], {
    script: ROOMY,
    turnMs: 0,
    then: { Ready: crowd, 't0: "hi"': shutdown },
  });
  const accepted = beforeNextStep(lines, "Ready").filter((one) => one.endsWith(": Accepted"));
  assert.deepEqual(accepted, CROWD.map((id) => `${id}: Accepted`));
});

Deno.test("requests are accepted until their time is used; a step of the others follows", async () => {
  const script = { ...ROOMY, endless: false };
  const { lines } = await run([load, warmUp], { script, turnMs: 10, then: { Ready: crowd } });
  const first = beforeNextStep(lines, "Ready").filter((one) => one.endsWith(": Accepted"));
  // The budget of 20 ms is used at the second look after the one at its begin.
  assert.deepEqual(first, ["t0: Accepted", "t1: Accepted"]);
  assert.equal(lines.filter((one) => /^t\d+ Complete$/.test(one)).length, CROWD.length);
});

Deno.test("cancel behind many requests takes effect before the next token", async () => {
  const lines = await afterUp([chat("t")], {
    script: ROOMY,
    then: { 't: "hi"': [...crowd.slice(1), cancel("t")], "t Cancelled": shutdown },
  });
  const after = lines.slice(lines.indexOf('t: "hi"') + 1);
  const before = after.slice(0, after.indexOf("t Cancelled"));
  assert.ok(before.includes("ack cancel-t"));
  assert.ok(before.filter((one) => one.endsWith(": Accepted")).length <= 1, before.join(", "));
});

Deno.test("cancel of a request that is still to be submitted: it is never begun", async () => {
  const commands = [chat("t"), chat("u"), chat("u"), chat("v"), cancel("u")];
  const lines = await afterUp([], { then: { Ready: commands } });
  const ofU = lines.filter((one) => /\bu\b/.test(one));
  assert.deepEqual(ofU, ["ack u", "ack u", "ack cancel-u", "u Cancelled"]);
  for (const id of ["t", "v"]) assert.ok(lines.includes(`${id} Complete`));
  assert.equal(lines.at(-1), "Ready");
});

Deno.test("cancel of a request that was given twice, once taken up, says Cancelled once", async () => {
  const lines = await afterUp([chat("t")], {
    script: { ...HI, endless: true },
    then: { "t: PrefillProgress": [chat("t"), cancel("t")] },
  });
  assert.deepEqual(lines.slice(-4), ["ack t", "ack cancel-t", "t Cancelled", "Ready"]);
  assert.equal(lines.filter((one) => one === "t Cancelled").length, 1);
});

Deno.test("Shutdown behind many requests begins none of them", async () => {
  const lines = await afterUp([chat("t")], {
    script: ROOMY,
    then: { 't: "hi"': [...crowd, shutdown] },
  });
  assert.deepEqual(lines.slice(lines.indexOf('t: "hi"') + 1), END);
});

Deno.test("cancel of an unknown or ended request is acknowledged, and nothing else", async () => {
  assert.deepEqual(await afterUp([cancel("nobody")]), ["ack cancel-nobody"]);
  const lines = await afterUp([chat("t")], { then: { Ready: [], "t Complete": cancel("t") } });
  assert.deepEqual(lines, [...chatOf("t"), "ack cancel-t"]);
});

Deno.test("cancel before anything is loaded is acknowledged", async () => {
  const { lines, error } = await run([cancel("t")]);
  assert.deepEqual([lines, error], [["Idle", "ack cancel-t"], undefined]);
});

Deno.test("a command that is illegal in its status is refused, not died of", async () => {
  const refused = (id: string) => [`ack ${id}`, `${id} Failed`];
  const { lines, error } = await run([warmUp, chat("early"), load, load, init, warmUp], {
    then: { Ready: [warmUp, load, init, chat("t")] },
  });
  assert.equal(error, undefined);
  assert.deepEqual(lines, [
    "Idle",
    ...refused("warm"),
    "ack early",
    "early: Error",
    "early Failed",
    ...LOADED,
    "Loaded",
    ...refused("load"),
    ...refused("init"),
    "warm Running",
    "WarmingUp",
    "ack warm",
    "warm Complete",
    "Ready",
    ...refused("warm"),
    ...refused("load"),
    ...refused("init"),
    ...chatOf("t"),
  ]);
});

Deno.test("a refusal says what was asked and where the runner stands", async () => {
  const { reports } = await run([chat("t")]);
  const [chunk] = reports.flatMap((one) => one.type === "ChunkGenerated" ? [one.chunk] : []);
  assert.ok(chunk?.type === "Error");
  assert.equal(chunk.error.code, "not_ready");
  assert.equal(chunk.error.message, "Cannot do TextGeneration while the runner is RunnerIdle");
});

Deno.test("a request that the engine refuses fails alone, without a word of Running", async () => {
  const lines = await afterUp([chat("t")], { script: { ...HI, contextTokens: 1 } });
  assert.deepEqual(lines, ["ack t", "t: Error", "t Failed"]);
});

Deno.test("an error of one request keeps the engine and the next request", async () => {
  const lines = await afterUp([chat("t")], {
    script: { ...HI, failIn: "request" },
    then: { "t Failed": chat("u") },
  });
  assert.deepEqual(lines.slice(0, 6), [
    "t Running",
    "Running",
    "ack t",
    "t: Accepted",
    "t: Error",
    "t Failed",
  ]);
  assert.ok(lines.includes("u Failed"));
  assert.equal(lines.at(-1), "Ready");
});

for (const stage of ["load", "warmup"] as const) {
  Deno.test(`an error in ${stage} ends the runner with that error`, async () => {
    const { lines, error } = await run([load, warmUp], { script: { failIn: stage } });
    assert.match(String(error), new RegExp(`told to fail in ${stage}`));
    assert.equal(lines.at(-1), stage === "load" ? "ack load" : "ack warm");
  });
}

/** A builder that counts its layers and what is closed. */
class CountingBuilder extends FakeBuilder {
  layers = 0;
  closed: string[] = [];

  override *load() {
    for (; this.layers < 32; this.layers++) {
      yield { layersLoaded: this.layers + 1, totalLayers: 32 };
    }
  }

  override build(): Engine {
    const engine = super.build();
    return {
      warmup: () => engine.warmup(),
      submit: (task) => engine.submit(task),
      hasWork: () => engine.hasWork(),
      step: () => engine.step(),
      cancel: (taskId) => engine.cancel(taskId),
      relieve: () => engine.relieve(),
      stats: () => engine.stats(),
      close: () => this.closed.push("engine"),
    };
  }

  override close(): void {
    this.closed.push("builder");
  }
}

Deno.test("Shutdown during load ends it at the next layer", async () => {
  const builder = new CountingBuilder();
  const { lines, error } = await run([load], { builder, then: { "Loading(3,32)": shutdown } });
  assert.equal(error, undefined);
  assert.equal(lines.filter((one) => one.startsWith("Loading")).length, 4);
  assert.deepEqual(lines.slice(-END.length), END);
  assert.ok(!lines.includes("load Complete"));
  assert.deepEqual(builder.closed, ["builder"], "no engine was built");
});

Deno.test("Shutdown in any status ends the runner, and closes all once", async () => {
  for (const moment of ["Idle", "Loaded", "Ready", 't: "hi"']) {
    const builder = new CountingBuilder({ ...HI, endless: true });
    const { lines, error } = await run(
      [load, warmUp, chat("t")].slice(0, moment === "Idle" ? 0 : 3),
      {
        builder,
        then: { [moment]: shutdown },
      },
    );
    assert.equal(error, undefined);
    assert.deepEqual(lines.slice(-END.length), END, moment);
    assert.deepEqual(
      builder.closed,
      moment === "Idle" ? ["builder"] : ["engine", "builder"],
      moment,
    );
  }
});

Deno.test("Shutdown, or the end of the node, ends a runner that waits for its group", async () => {
  class Lonely extends CountingBuilder {
    readonly #joined = Promise.withResolvers<void>();

    override connect(): Promise<void> {
      return this.#joined.promise;
    }

    override close(): void {
      super.close();
      this.#joined.reject(new Error("given up"));
    }
  }
  const builder = new Lonely();
  const told = await run([init], { builder, then: { "ack init": shutdown } });
  assert.deepEqual(told.lines, ["Idle", "init Running", "Connecting", "ack init", ...END]);
  assert.deepEqual([told.error, builder.closed], [undefined, ["builder"]]);
  const left = await run([init], { builder: new Lonely() });
  assert.deepEqual(left.lines, ["Idle", "init Running", "Connecting", "ack init"]);
  assert.equal(left.error, undefined);
});

Deno.test("a rank that is led waits for the others once, however many commands come", async () => {
  let waits = 0;
  let work = 0;
  const arrivals: (() => void)[] = [];
  class Led extends CountingBuilder {
    override build(): Engine {
      return {
        ...super.build(),
        hasWork: () => work > 0,
        step: () => {
          work--;
          return [];
        },
        arrival: () => {
          waits++;
          return new Promise<void>((resolve) => arrivals.push(resolve));
        },
      };
    }
  }
  const ping = (id: string): RunnerCommand => ({ type: "Ping", taskId: taskId(id), ...stamp });
  const then: Record<string, RunnerCommand> = { Ready: ping("p0") };
  for (let n = 0; n < 20; n++) then[`ack p${n}`] = ping(`p${n + 1}`);
  const { lines, error } = await run([load, warmUp], { builder: new Led(), then });
  assert.equal(error, undefined);
  assert.ok(lines.includes("ack p20"), "each is answered between two steps");
  assert.equal(waits, 1);
  work = 2;
  waits = 0;
  const again = await run([load, warmUp], { builder: new Led(), then: { Ready: shutdown } });
  assert.deepEqual(again.lines.slice(-END.length), END, "work does not keep Shutdown waiting");
});

Deno.test("what another rank sends ends a wait for commands", async () => {
  let work = 0;
  let steps = 0;
  class Led extends CountingBuilder {
    override build(): Engine {
      return {
        ...super.build(),
        hasWork: () => work > 0,
        step: () => {
          work--;
          steps++;
          return [];
        },
        arrival: () => steps < 5 ? Promise.resolve(void work++) : new Promise(() => {}),
      };
    }
  }
  assert.equal((await run([load, warmUp], { builder: new Led() })).error, undefined);
  assert.equal(steps, 5);
});

Deno.test("an error of a step is one of the device: it ends the runner", async () => {
  const builder = new CountingBuilder();
  const build = () => ({
    ...CountingBuilder.prototype.build.call(builder),
    step: () => {
      throw new Error("the device is gone");
    },
  });
  const { lines, error } = await run([load, warmUp, chat("t")], {
    builder: Object.assign(builder, { build }),
  });
  assert.match(String(error), /the device is gone/);
  assert.equal(lines.at(-1), "t: Accepted");
  assert.deepEqual(builder.closed, ["engine", "builder"]);
});

/** What each report of the engine's stats says, and what was told next. */
function statsOf({ reports }: Run) {
  return reports.flatMap((report, i) => {
    if (report.type !== "StatsUpdated") return [];
    const next = reports[i + 1];
    return [{ stats: report.stats, after: next && line(next) }];
  });
}

Deno.test("stats are told before each Ready, at rest", async () => {
  const told = statsOf(await run([load, warmUp, chat("t")], { turnMs: 1 }));
  assert.deepEqual(told.map(({ after }) => after), ["Ready", "Ready"]);
  const [warm, over] = told.map(({ stats }) => stats);
  assert.deepEqual([warm?.requests, warm?.generatedTokens], [0, 0]);
  assert.deepEqual([over?.requests, over?.promptTokens, over?.generatedTokens], [1, 1, 1]);
  assert.deepEqual([over?.running, over?.batchSize, over?.generationTokensPerSecond], [0, 0, 0]);
});

Deno.test("stats are told once a second of work, with the rates of that second", async () => {
  const tokens = Array.from({ length: 40 }, (_, n) => `${n} `);
  // One look at the clock in each step: four steps make a second.
  const told = statsOf(await run([load, warmUp, chat("t")], { script: { tokens }, turnMs: 250 }));
  const working = told.map(({ stats }) => stats).filter(({ running }) => running > 0);
  assert.equal(working.length, 10);
  const [first, ...later] = working;
  assert.equal(first?.promptTokensPerSecond, 1, "the prompt was read in the first second");
  assert.equal(first?.generationTokensPerSecond, 3);
  for (const { generationTokensPerSecond, promptTokensPerSecond } of later) {
    assert.deepEqual([generationTokensPerSecond, promptTokensPerSecond], [4, 0]);
  }
  assert.equal(told.at(-1)?.stats.generatedTokens, 40);
});

Deno.test("stats show who waits, and count nothing of the time at rest", async () => {
  const script = { tokens: ["a", "b", "c", "d", "e", "f", "g", "h"] };
  const told = statsOf(
    await run([load, warmUp, chat("t"), chat("u")], {
      script,
      turnMs: 500,
      then: { "u Complete": chat("v") },
    }),
  );
  const queued = told.map(({ stats }) => stats.queued);
  assert.equal(Math.max(...queued), 1);
  assert.equal(queued.at(-1), 0);
  for (const { stats } of told) assert.ok(stats.generationTokensPerSecond <= 2);
});

Deno.test("a task's spans are told before its end", async () => {
  const span = { name: "queue", startUs: 1, durationUs: 2, rank: 0, category: "queue" };
  class TracingBuilder extends FakeBuilder {
    override build(): Engine {
      const engine = super.build();
      const step = function* (): Iterable<TaskResponse> {
        for (const [taskId, response] of engine.step()) {
          if (response.type === "finished") yield [taskId, { type: "traced", spans: [span] }];
          yield [taskId, response];
        }
      };
      return {
        warmup: () => engine.warmup(),
        submit: (task) => engine.submit(task),
        hasWork: () => engine.hasWork(),
        step,
        cancel: (taskId) => engine.cancel(taskId),
        relieve: () => engine.relieve(),
        stats: () => engine.stats(),
        close: () => engine.close(),
      };
    }
  }
  const { lines, reports } = await run([load, warmUp, chat("t")], {
    builder: new TracingBuilder(HI),
  });
  const at = lines.indexOf("t traced");
  assert.deepEqual(lines.slice(at - 1, at + 2), ["t: Finish", "t traced", "t Complete"]);
  const traced = reports.find(({ type }) => type === "TaskTraced");
  assert.ok(traced?.type === "TaskTraced");
  assert.deepEqual(traced.spans, [span]);
});

Deno.test("the end of the node ends the runner without a word", async () => {
  const { lines, error } = await run([load, warmUp]);
  assert.deepEqual([lines.at(-1), error], ["Ready", undefined]);
});

Deno.test("Loading is told ten times a second at most, and when it ends", async () => {
  const { lines } = await run([load], { builder: new CountingBuilder(), turnMs: 10 });
  const told = lines.filter((line) => line.startsWith("Loading("));
  assert.deepEqual(told, [
    "Loading(0,32)",
    "Loading(10,32)",
    "Loading(20,32)",
    "Loading(30,32)",
    "Loading(32,32)",
  ]);
});

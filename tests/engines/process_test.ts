import assert from "node:assert/strict";
import type { RunnerCommand, RunnerReport } from "../../core/frames.ts";
import { TaskId } from "../../core/ids.ts";
import { LADDER_NODE_STOP } from "../../node/runner_limits.ts";
import { RunnerProcess } from "../../node/runner_process.ts";
import { A, instanceOf } from "../support/fixtures.ts";
import { RUNNER_MAIN } from "../support/programs.ts";
import { TempDir } from "../support/temp_dir.ts";
import { ask } from "../support/test_node.ts";

const INCARNATION = 1;
const id = (name: string) => TaskId.parse(name);

/** A runner process whose fake engine blocks its thread in every step. */
class SlowRunner {
  readonly process: RunnerProcess;
  readonly reports: RunnerReport[] = [];
  readonly #listeners = new Set<() => void>();

  constructor(scriptFile: string) {
    this.process = new RunnerProcess(
      {
        command: Deno.execPath(),
        args: ["run", "-A", "--no-check", RUNNER_MAIN],
        env: { ...Deno.env.toObject(), EXO_ENGINE: "fake", EXO_ENGINE_SCRIPT: scriptFile },
      },
      INCARNATION,
      {
        report: (report) => {
          this.reports.push(report);
          for (const listener of [...this.#listeners]) listener();
        },
        ending: () => {},
        failed: () => {},
        stopped: () => {},
      },
    );
  }

  /** Resolves once a report is as `predicate` wants it. */
  async seen(predicate: (report: RunnerReport) => boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      const look = () => {
        if (!this.reports.some(predicate)) return;
        this.#listeners.delete(look);
        resolve();
      };
      this.#listeners.add(look);
      look();
    });
  }

  /** Tokens reported so far. */
  get tokens(): number {
    return this.reports.filter((one) => one.type === "ChunkGenerated" && one.chunk.type === "Token")
      .length;
  }
}

const isStatus = (type: string) => (report: RunnerReport) =>
  report.type === "StatusUpdated" && report.status.type === type;

async function startSlow(folder: string): Promise<SlowRunner> {
  const scriptFile = `${folder}/fake.json`;
  await Deno.writeTextFile(scriptFile, JSON.stringify({ endless: true, stepMs: 50 }));
  const runner = new SlowRunner(scriptFile);
  await runner.seen(isStatus("RunnerIdle"));
  const [shard] = Object.values(instanceOf("i", [A]).shardAssignments.runnerToShard);
  assert.ok(shard);
  const load = { modelPath: folder, shard, config: {} };
  const stamp = { incarnation: INCARNATION };
  runner.process.send({ type: "LoadModel", taskId: id("load"), ...load, ...stamp });
  await runner.seen(isStatus("RunnerLoaded"));
  runner.process.send({ type: "StartWarmup", taskId: id("warm"), ...stamp });
  await runner.seen(isStatus("RunnerReady"));
  return runner;
}

const generation = (name: string): RunnerCommand => ({
  type: "TextGeneration",
  taskId: id(name),
  incarnation: INCARNATION,
  payload: ask("for ever"),
});

Deno.test("a busy runner hears a cancel and a new request within two steps", async () => {
  await using dir = await TempDir.make();
  const runner = await startSlow(dir.path);
  const isToken = (one: RunnerReport) =>
    one.type === "ChunkGenerated" && one.chunk.type === "Token";
  runner.process.send(generation("first"));
  await runner.seen(isToken);
  let before = runner.tokens;
  runner.process.send(generation("second"));
  await runner.seen((one) => one.type === "Ack" && one.taskId === "second");
  assert.ok(runner.tokens - before <= 2, `the request took ${runner.tokens - before} steps`);
  before = runner.tokens;
  const cancelled = { cancelledTaskId: id("first"), incarnation: INCARNATION };
  runner.process.send({ type: "CancelTask", taskId: id("cancel"), ...cancelled });
  await runner.seen((one) => one.type === "TaskUpdated" && one.taskStatus === "Cancelled");
  assert.ok(runner.tokens - before <= 2, `the cancel took ${runner.tokens - before} steps`);
  await runner.process.stop(LADDER_NODE_STOP);
});

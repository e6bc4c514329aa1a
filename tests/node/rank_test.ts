import assert from "node:assert/strict";
import type { RunnerCommand } from "../../core/frames.ts";
import { runnersOf } from "../../core/instance.ts";
import type { NodeId } from "../../core/ids.ts";
import { GIB } from "../../core/units.ts";
import {
  CONNECT_TIMEOUT_MS,
  LOAD_TIMEOUT_MS,
  Rank,
  STEP_TIMEOUT_MS,
  SUSPECT_STEP_TIMEOUT_MS,
} from "../../node/rank.ts";
import type { RunnerProcess } from "../../node/runner_process.ts";
import { engineStats } from "../support/engine_stats.ts";
import { A, B, cardOf, instanceOf, statusOf, taskId } from "../support/fixtures.ts";

/** A process that only notes what is asked of it. */
class NotedProcess {
  readonly incarnation = 1;
  readonly sent: RunnerCommand["type"][] = [];
  limit: { ms: number; what: string } | undefined;
  isAnswering = true;
  refusal: string | undefined;

  get isArmed(): boolean {
    return this.limit !== undefined;
  }

  send({ type }: RunnerCommand): void {
    this.sent.push(type);
  }

  arm(ms: number, what: string | (() => string)): void {
    this.limit = { ms, what: typeof what === "string" ? what : what() };
  }

  disarm(): void {
    this.limit = undefined;
  }

  refuse(reason: string): void {
    this.refusal = reason;
  }
}

/** The last rank of an instance on these nodes, up and idle. */
function rankOf(nodeIds: readonly NodeId[], options: { missing?: () => string } = {}) {
  const process = new NotedProcess();
  const card = cardOf({ storageSize: { inBytes: 16 * GIB } });
  const instance = instanceOf("i", nodeIds, { card });
  const shards = instance.shardAssignments.runnerToShard;
  const shard = shards[runnersOf(instance).at(-1) as keyof typeof shards];
  assert.ok(shard);
  const half = { ...shard, endLayer: shard.nLayers / nodeIds.length };
  const made = process as unknown as RunnerProcess;
  const rank = new Rank(instance, made, { shard: half, ...options });
  rank.setStatus(statusOf("RunnerIdle"));
  return { rank, process };
}

/** The limit of a rank in this status. */
function limitIn(nodeIds: readonly NodeId[], type: Parameters<typeof statusOf>[0]) {
  const { rank, process } = rankOf(nodeIds, { missing: () => " without b" });
  rank.setStatus(statusOf(type));
  rank.watch();
  return process.limit;
}

Deno.test("joining a group has a limit, which says who has not come", () => {
  assert.deepEqual(limitIn([A, B], "RunnerConnecting"), {
    ms: CONNECT_TIMEOUT_MS,
    what: "joining the group without b",
  });
});

Deno.test("loading has time for the rank's own part of the model", () => {
  assert.equal(limitIn([A], "RunnerLoading")?.ms, LOAD_TIMEOUT_MS + 16_000);
  assert.equal(limitIn([A, B], "RunnerLoading")?.ms, LOAD_TIMEOUT_MS + 8_000);
});

Deno.test("a rank that waits for the others has no limit of its own", () => {
  for (const type of ["RunnerConnected", "RunnerLoaded", "RunnerReady"] as const) {
    assert.equal(limitIn([A, B], type), undefined, type);
  }
});

Deno.test("a node out of reach shortens the wait for a step, and back again", () => {
  const { rank, process } = rankOf([A, B]);
  rank.suspect(true);
  assert.equal(process.isArmed, false, "nothing is waited for");
  rank.setStatus(statusOf("RunnerRunning"));
  rank.watch();
  assert.equal(process.limit?.ms, SUSPECT_STEP_TIMEOUT_MS);
  rank.suspect(false);
  assert.equal(process.limit?.ms, STEP_TIMEOUT_MS);
});

Deno.test("stats without a step are no progress of a group", () => {
  const { rank } = rankOf([A, B]);
  const told = [1, 1, 2].map((steps) => rank.note(engineStats({ steps })));
  assert.deepEqual(told, [true, false, true]);
  const { rank: alone } = rankOf([A]);
  assert.deepEqual([1, 1].map((steps) => alone.note(engineStats({ steps }))), [true, true]);
});

Deno.test("a ping is asked once at a time, and its answer is no progress", () => {
  const { rank, process } = rankOf([A, B]);
  rank.ping(taskId("p"));
  process.isAnswering = false;
  rank.ping(taskId("q"));
  assert.deepEqual(process.sent, ["Ping"]);
  assert.equal(rank.acknowledged(taskId("p")), false);
  assert.equal(rank.acknowledged(taskId("other")), true);
});

Deno.test("a rank that is refused counts as stopping at once: nothing more is planned for it", () => {
  const { rank, process } = rankOf([A, B]);
  rank.refuse("its files are gone");
  assert.equal(process.refusal, "its files are gone");
  assert.equal(rank.stopping, true);
});

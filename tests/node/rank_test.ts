import assert from "node:assert/strict";
import type { RunnerCommand } from "../../core/frames.ts";
import { runnersOf } from "../../core/instance.ts";
import type { NodeId } from "../../core/ids.ts";
import { GIB } from "../../core/units.ts";
import { STEP_MS_MAX, SUSPECT_STEP_MS_MAX } from "../../core/step_watch.ts";
import type { GenerationRelay } from "../../node/generation_relay.ts";
import { CONNECT_TIMEOUT_MS, LOAD_TIMEOUT_MS, Rank, STEP_TIMEOUT_MS } from "../../node/rank.ts";
import type { RunnerLimit } from "../../node/runner_limits.ts";
import type { RunnerProcess } from "../../node/runner_process.ts";
import { engineStats } from "../support/engine_stats.ts";
import { A, B, cardOf, instanceOf, statusOf, taskId } from "../support/fixtures.ts";

/** A process that only notes what is asked of it. */
class NotedProcess {
  readonly incarnation = 1;
  readonly sent: RunnerCommand["type"][] = [];
  limit: { ms: number; reason: string; code?: string } | undefined;
  isAnswering = true;
  refusal: string | undefined;

  get isArmed(): boolean {
    return this.limit !== undefined;
  }

  send({ type }: RunnerCommand): void {
    this.sent.push(type);
  }

  ping(): void {
    this.sent.push("Ping");
  }

  arm({ reason, ...limit }: RunnerLimit): void {
    this.limit = { ...limit, reason: reason() };
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
  const clock = { now: 1_000 };
  const rank = new Rank(instance, made, { shard: half, uptime: () => clock.now, ...options });
  rank.setStatus(statusOf("RunnerIdle"));
  rank.watch();
  return { rank, process, clock };
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
    reason: `joining the group without b took longer than ${CONNECT_TIMEOUT_MS / 1000} s`,
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

/** Where the first rank's chunks go. */
const RELAY = { push: () => true, close: () => {}, fail: () => {} } as unknown as GenerationRelay;

/** Gives the rank a request. */
function giveWork(rank: Rank, id = "t"): void {
  const command = { type: "CancelTask" as const, cancelledTaskId: taskId("x"), incarnation: 1 };
  rank.generate({ ...command, taskId: taskId(id) }, RELAY);
  rank.watch();
}

Deno.test("a group must finish steps: that it takes requests and counts shows none", () => {
  const { rank, process, clock } = rankOf([A, B]);
  rank.setStatus(statusOf("RunnerReady"));
  giveWork(rank);
  assert.equal(process.limit?.ms, STEP_MS_MAX);
  assert.match(process.limit.reason, /^no step was finished within 30 s$/);
  clock.now += 10_000;
  giveWork(rank, "u");
  rank.note(engineStats());
  rank.chunk(taskId("t"), { type: "Accepted", promptTokens: 1 });
  rank.watch();
  assert.equal(process.limit?.ms, STEP_MS_MAX - 10_000);
  rank.note(engineStats({ steps: 10 }));
  rank.watch();
  assert.equal(process.limit?.ms, STEP_MS_MAX);
  clock.now += 10_000;
  rank.chunk(taskId("t"), { type: "Token", text: "a", tokenId: 1 });
  rank.watch();
  assert.equal(process.limit?.ms, STEP_MS_MAX);
});

Deno.test("a group at rest has no limit, and its rest is no part of the next step", () => {
  const { rank, process, clock } = rankOf([A, B]);
  rank.setStatus(statusOf("RunnerRunning"));
  rank.watch();
  clock.now += 100;
  rank.note(engineStats({ steps: 1 }));
  rank.setStatus(statusOf("RunnerReady"));
  rank.watch();
  assert.equal(process.isArmed, false);
  clock.now += 1_000_000;
  giveWork(rank);
  assert.equal(process.limit?.ms, STEP_MS_MAX);
});

Deno.test("a group whose steps are slow is given time for them", () => {
  const { rank, process, clock } = rankOf([A, B]);
  rank.setStatus(statusOf("RunnerRunning"));
  rank.watch();
  for (let steps = 1; steps <= 3; steps++) {
    clock.now += 3_000;
    rank.note(engineStats({ steps }));
  }
  rank.watch();
  assert.equal(process.limit?.ms, 60_000);
});

Deno.test("a rank that works alone may be silent for a minute, whatever it said last", () => {
  const { rank, process, clock } = rankOf([A]);
  rank.setStatus(statusOf("RunnerRunning"));
  rank.watch();
  clock.now += 10_000;
  rank.note(engineStats());
  rank.watch();
  assert.equal(process.limit?.ms, STEP_TIMEOUT_MS);
});

Deno.test("a node out of reach shortens the wait for a step, and back again", () => {
  const { rank, process, clock } = rankOf([A, B]);
  rank.suspect(["b"]);
  rank.suspect([]);
  assert.equal(process.isArmed, false, "nothing is waited for");
  rank.setStatus(statusOf("RunnerRunning"));
  rank.watch();
  clock.now += 2_000;
  rank.suspect(["b"]);
  assert.deepEqual(process.limit, {
    ms: SUSPECT_STEP_MS_MAX,
    reason: "no step was finished within 5 s, and b cannot be reached",
    code: "group_broken",
  });
  clock.now += 1_000;
  rank.suspect(["b", "c"]);
  assert.equal(process.limit?.ms, SUSPECT_STEP_MS_MAX - 1_000, "it began with the first of them");
  rank.suspect([]);
  assert.equal(process.limit?.ms, STEP_MS_MAX - 3_000);
});

Deno.test("a suspicion prolongs no other wait", () => {
  const { rank, process } = rankOf([A, B]);
  rank.setStatus(statusOf("RunnerConnecting"));
  rank.watch();
  const { limit } = process;
  rank.suspect(["b"]);
  assert.equal(process.limit, limit);
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

Deno.test("a group whose only prompt another node reads need not step meanwhile", () => {
  const { rank, process, clock } = rankOf([A, B]);
  rank.setStatus(statusOf("RunnerRunning"));
  giveWork(rank);
  rank.awaited.add(taskId("t"));
  rank.watch();
  assert.ok(!process.isArmed);
  giveWork(rank, "u");
  assert.equal(process.limit?.ms, STEP_MS_MAX, "there is another request");
  rank.dispatched.add(taskId("u"));
  rank.updateTask(taskId("u"), "Complete");
  rank.watch();
  clock.now += 200_000;
  rank.awaited.clear();
  rank.watch();
  clock.now += 100;
  rank.note(engineStats({ steps: 1 }));
  rank.watch();
  assert.equal(process.limit?.ms, STEP_MS_MAX, "the time of the other node is no step's");
});

Deno.test("a runner that works alone may be silent while another node reads its only prompt", () => {
  const { rank, process } = rankOf([A]);
  rank.setStatus(statusOf("RunnerRunning"));
  giveWork(rank);
  rank.awaited.add(taskId("t"));
  rank.watch();
  assert.ok(!process.isArmed);
  rank.awaited.clear();
  rank.watch();
  assert.equal(process.limit?.ms, STEP_TIMEOUT_MS);
});

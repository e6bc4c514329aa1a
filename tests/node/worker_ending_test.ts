/** A rank over RDMA that hangs: its node ends it slowly, and lets nobody wait for that. */
import assert from "node:assert/strict";
import { type Chunk, isTerminal } from "../../core/chunk.ts";
import type { Event } from "../../core/events.ts";
import type { Instance } from "../../core/instance.ts";
import { isReady } from "../../core/master.ts";
import { EMPTY_STATE } from "../../core/state.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { decodeMessage, encodeMessage, GENERATION } from "../../net/topics.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { EventLog } from "../../node/event_log.ts";
import { isMovable } from "../../node/generation_attempt.ts";
import { ModelStore } from "../../node/model_store.ts";
import { Replica } from "../../node/replica.ts";
import { Reporter } from "../../node/reporter.ts";
import { Worker } from "../../node/worker.ts";
import { eventually, isAlive } from "../support/eventually.ts";
import {
  A,
  B,
  created,
  downloaded,
  fold,
  instanceOf,
  nodeStarted,
  reported,
  runnerId,
  taskCreated,
  taskOf,
} from "../support/fixtures.ts";
import { ODD_RUNNER } from "../support/programs.ts";
import { TempDir } from "../support/temp_dir.ts";
import { ask } from "../support/test_node.ts";

const HOSTS = [{ ip: "10.0.0.1", port: 2 }, { ip: "10.0.0.2", port: 2 }];

/** Two ranks over RDMA, on A and B. */
function overRdma(): Instance {
  const { instanceId, shardAssignments } = instanceOf("i", [A, B]);
  return {
    type: "MlxJacclInstance",
    instanceId,
    shardAssignments,
    jacclDevices: [[null, "rdma_en3"], ["rdma_en3", null]],
    jacclCoordinators: { [A]: "0.0.0.0:1", [B]: "10.0.0.1:1" },
    hostsByNode: { [A]: HOSTS, [B]: HOSTS },
  };
}

/** Node A, whose rank leads and hangs with its first request; B asks, and its rank is Ready. */
async function world() {
  const dir = await TempDir.make();
  const log = EventLog.open(dir.path);
  const nodes = [nodeStarted(A), nodeStarted(B), downloaded(A), downloaded(B)];
  const replica = new Replica(EMPTY_STATE);
  const tell = (events: readonly Event[]) => replica.set(fold(events, replica.state));
  tell([...nodes, created(overRdma()), reported("i:1", "RunnerReady", { incarnation: 4 })]);
  const told = new Set<Event>();
  const reporter = new Reporter(A, replica, ({ reports }) => {
    const news = [...reports.values()].filter((event) => !told.has(event));
    for (const event of news) told.add(event);
    queueMicrotask(() => news.length > 0 && tell(news));
  });
  const network = new MemoryNetwork();
  const chunks: Chunk[] = [];
  network.join(B).handleStream(GENERATION.protocol, async (stream) => {
    const reader = stream[Symbol.asyncIterator]();
    await reader.next();
    await stream.send(encodeMessage(ask("hello")));
    for (let next = await reader.next(); !next.done; next = await reader.next()) {
      chunks.push(decodeMessage(GENERATION.chunk, next.value));
    }
  });
  const worker = new Worker({
    ...{ nodeId: A, replica, reporter, transport: network.join(A), clock: SYSTEM_CLOCK },
    models: new ModelStore(log),
    launch: {
      command: Deno.execPath(),
      args: ["run", "-A", "--no-check", ODD_RUNNER, "stuck"],
      env: Deno.env.toObject(),
    },
    nextIncarnation: () => 7,
    traces: { save: () => {} },
  });
  worker.start();
  return {
    ...{ replica, tell, chunks, worker },
    [Symbol.asyncDispose]: async () => {
      await worker.stop();
      reporter.stop();
      log.close();
      await dir[Symbol.asyncDispose]();
    },
  };
}

Deno.test("clients of a rank over RDMA that is being ended hear of it while it still lives", async () => {
  await using node = await world();
  const { replica, tell, chunks, worker } = node;
  const status = () => replica.state.runners.get(runnerId("i:0"))?.status.type;
  await eventually("it is Ready", () => status() === "RunnerReady");
  tell([taskCreated(taskOf("first", "i", { apiNodeId: B }))]);
  await eventually("the answer has ended", () => chunks.some(isTerminal));
  const last = chunks.at(-1);
  assert.ok(last?.type === "Error", JSON.stringify(chunks));
  assert.deepEqual([chunks.length, last.error.code], [1, "group_broken"]);
  assert.match(last.error.message, /had to be ended: its channel carried garbage/);
  assert.ok(isMovable(last.error.code));
  // Whoever asks now is given to another instance, or waits for this one to be made anew.
  await eventually("the state says so", () => status() === "RunnerShuttingDown");
  assert.equal(isReady(replica.state, overRdma()), false);
  tell([taskCreated(taskOf("second", "i", { apiNodeId: B }))]);
  const [pid] = worker.runnerPids().values();
  assert.ok(pid !== undefined && await isAlive(pid), "SIGTERM has not ended it");
  Deno.kill(pid, "SIGKILL");
  await eventually("it has failed", () => status() === "RunnerFailed");
  assert.equal(chunks.length, 1, "it was given nothing more");
});

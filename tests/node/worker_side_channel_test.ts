import assert from "node:assert/strict";
import { runnerLaunch } from "../../cli/host.ts";
import type { Event } from "../../core/events.ts";
import type { Instance } from "../../core/instance.ts";
import type { GatherPiece } from "../../core/pending_gathers.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { EventLog } from "../../node/event_log.ts";
import { ModelStore } from "../../node/model_store.ts";
import { Replica } from "../../node/replica.ts";
import { Reporter } from "../../node/reporter.ts";
import { SideChannels } from "../../node/side_channel.ts";
import { Worker } from "../../node/worker.ts";
import { findLibrary } from "../../ffi/mod.ts";
import { eventually } from "../support/eventually.ts";
import {
  A,
  B,
  created,
  fold,
  instanceOf,
  MODEL,
  nodeStarted,
  reported,
  runnerId,
} from "../support/fixtures.ts";
import { SIDE_CHANNEL_RUNNER } from "../support/side_channel_peer.ts";
import { TempDir } from "../support/temp_dir.ts";

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

const fetched = (nodeId: typeof A): Event => ({
  type: "NodeDownloadProgress",
  nodeId,
  modelId: MODEL,
  status: { type: "DownloadCompleted" },
} as Event);

/** Node A with a worker, whose reports are in its state at once; the other rank is Idle on B. */
async function world(gather: (piece: GatherPiece) => Promise<readonly string[]>) {
  const dir = await TempDir.make();
  const log = EventLog.open(dir.path);
  const replica = new Replica(fold([
    ...[nodeStarted(A), nodeStarted(B), fetched(A), fetched(B), created(overRdma())],
    reported("i:1", "RunnerIdle", { incarnation: 4 }),
  ]));
  const told = new Set<Event>();
  const reporter = new Reporter(A, replica, ({ reports }) => {
    const news = [...reports.values()].filter((event) => !told.has(event));
    for (const event of news) told.add(event);
    queueMicrotask(() => news.length > 0 && replica.set(fold(news, replica.state)));
  });
  const { env } = runnerLaunch(Deno.env.toObject(), findLibrary());
  let incarnation = 6;
  const worker = new Worker({
    nodeId: A,
    replica,
    transport: new MemoryNetwork().join(A),
    reporter,
    models: new ModelStore(log),
    clock: SYSTEM_CLOCK,
    launch: {
      command: Deno.execPath(),
      args: ["run", "-A", "--no-check", SIDE_CHANNEL_RUNNER],
      env,
    },
    nextIncarnation: () => ++incarnation,
    traces: { save: () => {} },
    sideChannels: new SideChannels(gather),
  });
  worker.start();
  return {
    status: () => replica.state.runners.get(runnerId("i:0"))?.status,
    [Symbol.asyncDispose]: async () => {
      await worker.stop();
      reporter.stop();
      log.close();
      await dir[Symbol.asyncDispose]();
    },
  };
}

Deno.test("a runner over RDMA finds the others by the side channel of its node", async () => {
  const pieces: GatherPiece[] = [];
  await using node = await world((piece) => {
    pieces.push(piece);
    return Promise.resolve([piece.data, new Uint8Array([1]).toBase64()]);
  });
  await eventually("it is connected", () => node.status()?.type === "RunnerConnected");
  const data = new Uint8Array([0]).toBase64();
  assert.deepEqual(pieces, [{ instanceId: "i", generation: "i/7.4", sequence: 0, data }]);
});

Deno.test("a runner whose side channel fails ends, with the reason", async () => {
  await using node = await world(() => Promise.reject(new Error("nobody is there")));
  await eventually("it has failed", () => node.status()?.type === "RunnerFailed");
  const status = node.status();
  const reason = status?.type === "RunnerFailed" ? status.reason : "";
  assert.equal(reason, "[jaccl] side channel: nobody is there");
});

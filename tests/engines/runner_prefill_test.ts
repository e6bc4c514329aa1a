/** What a runner says of prompts that it is to read for others, and of how fast it reads. */
import assert from "node:assert/strict";
import type { RunnerCommand, RunnerReport } from "../../core/frames.ts";
import { RING_BYTES_MIN } from "../../core/ring.ts";
import { CommandQueue } from "../../engines/command_queue.ts";
import type { Engine, PrefillService, PrefillTask } from "../../engines/engine.ts";
import { FakeBuilder } from "../../engines/fake.ts";
import { Runner } from "../../engines/runner.ts";
import { instanceOf, taskId } from "../support/fixtures.ts";

const stamp = { incarnation: 7 };
const [shard] = Object.values(instanceOf("i").shardAssignments.runnerToShard);
assert.ok(shard);
const LAYER = { kvHeads: 1, keyDim: 16, valueDim: 16 };
const request = {
  ...{ tokenIds: [1, 2, 3], startPos: 0, stopPos: 2 },
  fingerprint: { weights: "w", layout: "l", kvType: "q8", blockPositions: 2, layers: [LAYER] },
};
const prefill: RunnerCommand = {
  ...{ type: "Prefill", taskId: taskId("p"), ...stamp, request },
  ring: { path: "/ring", bytes: RING_BYTES_MIN },
};
const flow: RunnerCommand = {
  ...{ type: "PrefillFlow", taskId: taskId("f"), transferId: taskId("p"), bytes: 5, ...stamp },
};
const START: readonly RunnerCommand[] = [
  {
    ...{ type: "LoadModel", taskId: taskId("load"), ...stamp, modelPath: "/m" },
    ...{ shard, config: {} },
  },
  { type: "StartWarmup", taskId: taskId("warm"), ...stamp },
];

async function reportsOf(
  commands: readonly RunnerCommand[],
  prefills?: PrefillService,
): Promise<RunnerReport[]> {
  const [queue, reports] = [new CommandQueue(), [] as RunnerReport[]];
  const fake = new FakeBuilder({});
  const build = (): Engine =>
    Object.assign(fake.build(), prefills ? { prefills } : {}) as unknown as Engine;
  const builder = Object.assign(Object.create(fake), {
    load: (model: Parameters<typeof fake.load>[0]) => fake.load(model),
    build,
    close: () => {},
  });
  const runner = new Runner({
    ...{ incarnation: 7, builder, commands: queue, now: () => 0 },
    emit: (report) => {
      reports.push(report);
      // Earlier, and loading would break off.
      const last = commands.at(-1)?.taskId;
      if (report.type === "Ack" && report.taskId === last) queue.close();
    },
    breathe: () => Promise.resolve(),
  });
  for (const command of commands) queue.push(command);
  await runner.run();
  return reports;
}

const endsOf = (reports: readonly RunnerReport[]) =>
  reports.flatMap((report) => report.type === "PrefillFlow" ? [report.end?.error?.message] : []);

Deno.test("a runner that does not serve, or cannot, says so and is acknowledged", async () => {
  const early = await reportsOf([prefill]);
  assert.match(endsOf(early)[0] ?? "", /it is RunnerIdle, a runner that serves needed/);
  assert.ok(early.some((report) => report.type === "Ack" && report.taskId === "p"));
  const unable = await reportsOf([...START, prefill, flow]);
  assert.match(endsOf(unable)[0] ?? "", /keys and values that cannot travel/);
  const ready = unable.find((one) =>
    one.type === "StatusUpdated" && one.status.type === "RunnerReady"
  );
  assert.deepEqual(ready, { type: "StatusUpdated", ...stamp, status: { type: "RunnerReady" } });
});

Deno.test("a runner that can is Running, passes on how far bytes are, and tells its pace", async () => {
  const served: PrefillTask[] = [];
  const flows: number[] = [];
  const reports = await reportsOf([...START, prefill, flow], {
    tokensPerSecond: 1_234.5,
    serve: (task) => void served.push(task),
    flow: (_, { bytes }) => void flows.push(bytes),
  });
  assert.deepEqual(served.map(({ taskId }) => taskId), ["p"]);
  assert.deepEqual(flows, [5]);
  const statuses = reports.flatMap((one) => one.type === "StatusUpdated" ? [one.status] : []);
  assert.deepEqual(statuses.slice(-2), [
    { type: "RunnerReady", prefillTokensPerSecond: 1_200 },
    { type: "RunnerRunning" },
  ]);
});

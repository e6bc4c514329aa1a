import assert from "node:assert/strict";
import type { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { type InstanceId, runnerIdOf } from "../../core/ids.ts";
import type { FakeScript } from "../../engines/fake.ts";
import type { Node } from "../../node/node.ts";
import { instanceId } from "../support/cluster.ts";
import { eventually, isAlive } from "../support/eventually.ts";
import { TempDir } from "../support/temp_dir.ts";
import {
  addTinyModel,
  ask,
  collect,
  commandId,
  startTestNode,
  textOf,
  until,
  untilReady,
  writeScript,
} from "../support/test_node.ts";

/** What befalls a runner. */
export const FAULTS = ["exits", "killed", "stopped", "hangs", "garbage", "exhausts"] as const;

/** What the runner is doing when it happens. */
export const STAGES = ["idle", "load", "warmup", "prefill", "decode"] as const;

export type Fault = typeof FAULTS[number];
export type Stage = typeof STAGES[number];

/** One cell of the matrix. */
export interface Cell {
  readonly fault: Fault;
  readonly stage: Stage;
}

/** How soon a client, or whoever waits for the instance, hears of a fault. */
const HEARD_MS = 10_000;

/** An idle runner does nothing that could fail by itself: it can only be hit from outside. */
export const CELLS: readonly Cell[] = FAULTS.flatMap((fault) =>
  STAGES.filter((stage) => stage !== "idle" || fault === "killed" || fault === "stopped")
    .map((stage) => ({ fault, stage }))
);

const never = new AbortController().signal;

/** The faulty engine; what comes from outside strikes one that is held in its stage. */
function scriptOf({ fault, stage }: Cell): z.input<typeof FakeScript> {
  if (stage === "idle") return {};
  if (fault === "exits") return { exitIn: stage };
  if (fault === "garbage") return { garbageIn: stage };
  if (fault === "exhausts") return { exhaustIn: stage };
  return { hangIn: stage };
}

/**
 * Lets a fault happen, then asserts that it was heard in time, that the process is gone, and that
 * the next request is answered once the cause is.
 * @throws what does not hold.
 */
export async function runCell(cell: Cell): Promise<void> {
  await using dir = await TempDir.make();
  const dataDir = `${dir.path}/data`;
  const node = await startTestNode(dataDir, scriptOf(cell));
  try {
    const { modelId } = await addTinyModel(node, `${dir.path}/model`);
    const id = instanceId("i");
    const request = {
      modelId,
      sharding: "Pipeline",
      instanceMeta: "MlxRing",
      minNodes: 1,
    } as const;
    const place = { type: "PlaceInstance", commandId: commandId(node), instanceId: id } as const;
    await node.submit({ ...place, request });
    const pids = await strike(node, id, cell);
    await writeScript(dataDir, {});
    await until(node, "the failure is known", (state) => state.instanceRetries.has(id));
    await untilReady(node, id);
    const { chunks } = await node.generate(modelId, ask("all is well"), never);
    assert.equal(textOf(await collect(chunks)), "all is well");
    assert.deepEqual(await Promise.all(pids.map(isAlive)), pids.map(() => false));
    assert.equal(node.state().tasks.size, 0);
  } finally {
    await node.stop();
  }
}

/** Brings the runner to the stage and lets the fault happen; its process ids come back. */
async function strike(node: Node, id: InstanceId, { fault, stage }: Cell): Promise<number[]> {
  const runnerId = runnerIdOf(id, 0);
  const at = { idle: "RunnerReady", load: "RunnerLoading", warmup: "RunnerWarmingUp" };
  if (stage === "prefill" || stage === "decode") {
    await untilReady(node, id);
    const pids = [...node.runnerPids().values()];
    await answerBreaksOff(node, id, fault, pids);
    return pids;
  }
  // What strikes by itself may be over before its stage is seen.
  await until(
    node,
    `it reaches ${stage}`,
    (state) =>
      state.runners.get(runnerId)?.status.type === at[stage] || state.instanceRetries.has(id),
  );
  const pids = [...node.runnerPids().values()];
  const startedAt = performance.now();
  hit(fault, pids);
  if (fault === "stopped" && stage === "idle") await answerBreaksOff(node, id, fault, []);
  await eventually("the failure is known", () => node.state().instanceRetries.has(id), HEARD_MS);
  assert.ok(performance.now() - startedAt < HEARD_MS);
  return pids;
}

/** A client asks; it must hear an error in time, before or after the first chunk. */
async function answerBreaksOff(
  node: Node,
  id: InstanceId,
  fault: Fault,
  pids: readonly number[],
): Promise<void> {
  const instance = node.state().instances.get(id);
  assert.ok(instance);
  const startedAt = performance.now();
  const answer = node.generate(instance.shardAssignments.modelId, ask("one two three"), never)
    .then(({ chunks }) => collect(chunks));
  // The stage holds the thread; the fault comes while the request is inside.
  await until(
    node,
    "the request is inside",
    ({ tasks }) =>
      [...tasks.values()].some(({ taskStatus }) => taskStatus === "Running") || tasks.size === 0 ||
      pids.length === 0,
  );
  hit(fault, pids);
  const codes = await answer.then(
    (chunks) => chunks.flatMap((chunk) => chunk.type === "Error" ? [chunk.error.code] : []),
    (error) => error instanceof AppError ? [error.code] : [String(error)],
  );
  assert.deepEqual(codes, ["runner_failed"]);
  assert.ok(performance.now() - startedAt < HEARD_MS, "the client waited too long");
}

function hit(fault: Fault, pids: readonly number[]): void {
  const signal = fault === "killed" ? "SIGKILL" : fault === "stopped" ? "SIGSTOP" : undefined;
  if (signal) { for (const pid of pids) Deno.kill(pid, signal); }
}

import assert from "node:assert/strict";
import type { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { type InstanceId, type ModelId, runnerIdOf } from "../../core/ids.ts";
import type { State } from "../../core/state.ts";
import { PlacementRequest } from "../../core/placement_request.ts";
import type { FakeScript } from "../../engines/fake.ts";
import type { Node } from "../../node/node.ts";
import { instanceId } from "../support/fixtures.ts";
import { descriptorsAsBefore, settledDescriptors } from "../support/descriptors.ts";
import { eventually, isAlive, within } from "../support/eventually.ts";
import { liveBytes } from "../support/live_bytes.ts";
import {
  addTinyModel,
  ask,
  collect,
  commandId,
  REAL_ENGINE,
  startTestNode,
  textOf,
  until,
  untilReady,
  writeScript,
} from "../support/test_node.ts";
import type { Cell, CellReport, Fault } from "./faults.ts";

const TINY = new URL("../golden/models/tiny-tied", import.meta.url).pathname;

/** How soon a client, or whoever waits for the instance, hears of a fault. */
const HEARD_MS = 10_000;

/** How long an answer is awaited; beyond `HEARD_MS`, to tell late from never. */
const ANSWER_MS_MAX = 3 * HEARD_MS;

/** Most that what is alive on the node may grow over a cell. */
const LIVE_GROWTH_SHARE_MAX = 0.05;

/** Small chunks, so that a prompt of a real engine has a midst in which it can be struck. */
const PREFILL_CHUNK_TOKENS = 8;

/** Tokens of a real engine's answer. */
const ANSWER_TOKENS = 8;

/** The node is this very process. */
const PIDS = [Deno.pid];

const never = new AbortController().signal;

/** A node with a model, and what it answers when all is well. */
interface Scene {
  readonly node: Node;
  readonly dataDir: string;
  readonly modelId: ModelId;
  readonly engine: Cell["engine"];
}

/**
 * Lets a fault happen, then asserts that it was heard in time, that the process is gone, that the
 * next request is answered once the cause is, and that the node holds no more than before: a fault
 * of the same stage went ahead, after which caches and compilers have what they keep.
 * @throws what does not hold.
 */
export async function measureCell(cell: Cell, folder: string): Promise<CellReport> {
  const dataDir = `${folder}/data`;
  const { engine } = cell;
  const node = await startTestNode(dataDir, {}, engine === "real" ? REAL_ENGINE : {});
  try {
    const { modelId } = engine === "real"
      ? await node.addModel(TINY)
      : await addTinyModel(node, `${folder}/model`);
    const scene = { node, dataDir, modelId, engine };
    await strikeOnce(scene, { ...cell, fault: "killed" }, instanceId("before"));
    const began = { open: await settledDescriptors(PIDS), liveBytes: await liveBytes() };
    await strikeOnce(scene, cell, instanceId("struck"));
    const ended = {
      open: await descriptorsAsBefore(PIDS, { before: began.open }),
      liveBytes: await liveBytes(),
    };
    const most = Math.floor(began.liveBytes * (1 + LIVE_GROWTH_SHARE_MAX));
    assert.ok(ended.liveBytes <= most, `the node holds ${ended.liveBytes} bytes, over ${most}`);
    return {
      descriptors: [began.open.length, ended.open.length],
      liveBytes: [began.liveBytes, ended.liveBytes],
    };
  } finally {
    await node.stop();
  }
}

/** One fault of an instance's runner, its recovery, an answer, and the instance's end. */
async function strikeOnce(scene: Scene, cell: Cell, id: InstanceId): Promise<void> {
  const { node, dataDir } = scene;
  await writeScript(dataDir, scriptOf(cell));
  await placeInstance(scene, id);
  const pids = await strike(scene, id, cell);
  await writeScript(dataDir, {});
  await until(node, "the failure is known", (state) => state.instanceRetries.has(id));
  await untilReady(node, id);
  await isWell(scene);
  assert.deepEqual(await Promise.all(pids.map(isAlive)), pids.map(() => false));
  await until(node, "all tasks are over", ({ tasks }) => tasks.size === 0);
  const successors = [...node.runnerPids().values()];
  await node.submit({ type: "DeleteInstance", commandId: commandId(node), instanceId: id });
  const isGone = async () => !(await Promise.all(successors.map(isAlive))).includes(true);
  await eventually("the instance's runner is gone", isGone);
  await until(node, "it is forgotten", ({ runners }) => runners.size === 0);
}

async function placeInstance({ node, modelId }: Scene, id: InstanceId): Promise<void> {
  const config = { prefillChunkTokens: PREFILL_CHUNK_TOKENS };
  const request = PlacementRequest.parse({ modelId, config });
  const place = { type: "PlaceInstance", commandId: commandId(node), instanceId: id } as const;
  await node.submit({ ...place, request });
}

/** Asks, and expects a whole answer. */
async function isWell({ node, modelId, engine }: Scene): Promise<void> {
  const asked = node.generate(modelId, question("all is well"), never)
    .then(({ chunks }) => collect(chunks));
  const answer = await within("a whole answer", asked, ANSWER_MS_MAX);
  assert.equal(answer.at(-1)?.type, "Finish");
  if (engine === "fake") assert.equal(textOf(answer), "all is well");
}

const question = (text: string) =>
  ask(text, { sampling: { temperature: 0 }, maxTokens: ANSWER_TOKENS });

/** The faulty engine; what comes from outside strikes one that is held in its stage. */
function scriptOf({ fault, stage, inFlight }: Cell): z.input<typeof FakeScript> {
  if (stage === "idle") return {};
  const gathers = { gatherRequests: inFlight };
  if (fault === "exits") return { ...gathers, exitIn: stage };
  if (fault === "garbage") return { ...gathers, garbageIn: stage };
  if (fault === "exhausts") return { ...gathers, exhaustIn: stage };
  return { ...gathers, hangIn: stage };
}

/** Brings the runner to the stage and lets the fault happen; its process ids come back. */
async function strike(at: Scene, id: InstanceId, cell: Cell): Promise<number[]> {
  const { node } = at;
  const { fault, stage } = cell;
  if (stage === "prefill" || stage === "decode") {
    await untilReady(node, id);
    const pids = [...node.runnerPids().values()];
    await answersEnd(at, cell, pids);
    return pids;
  }
  // What strikes by itself may be over before its stage is seen.
  const hasReached = ({ runners, instanceRetries }: State) =>
    runners.get(runnerIdOf(id, 0))?.status.type === STATUS[stage] || instanceRetries.has(id);
  await until(node, `it reaches ${stage}`, hasReached);
  const pids = [...node.runnerPids().values()];
  const startedAt = performance.now();
  hit(fault, pids);
  if (fault === "stopped" && stage === "idle") await answersEnd(at, cell, []);
  await eventually("the failure is known", () => node.state().instanceRetries.has(id), HEARD_MS);
  assert.ok(performance.now() - startedAt < HEARD_MS);
  return pids;
}

const STATUS = { idle: "RunnerReady", load: "RunnerLoading", warmup: "RunnerWarmingUp" };

/**
 * Clients ask; each must hear an error in time, or the answer of the runner's successor if nothing
 * had been answered yet.
 */
async function answersEnd(at: Scene, cell: Cell, pids: readonly number[]): Promise<void> {
  const { fault, inFlight } = cell;
  const startedAt = performance.now();
  const heard = Array.from({ length: inFlight }, (_, i) => endOf(at, `one two three ${i}`));
  if (pids.length > 0) await requestsAreInside(at, cell);
  hit(fault, pids);
  const isGone = async () => !(await Promise.all(pids.map(isAlive))).includes(true);
  await eventually("the runner is gone", isGone, ANSWER_MS_MAX);
  // Its successor is faultless; it is started some time later.
  await writeScript(at.dataDir, {});
  const ends = await within("the end of the answers", Promise.all(heard), ANSWER_MS_MAX);
  for (const end of ends) assert.ok(["Finish", "runner_failed"].includes(end), end);
  assert.ok(performance.now() - startedAt < HEARD_MS, "a client waited too long");
}

/** How the answer to a text ends: the type of its last chunk, or the code of its error. */
async function endOf({ node, modelId }: Scene, text: string): Promise<string> {
  try {
    const chunks = await collect((await node.generate(modelId, question(text), never)).chunks);
    const last = chunks.at(-1);
    return last?.type === "Error" ? last.error.code : last?.type ?? "nothing";
  } catch (error) {
    return error instanceof AppError ? error.code : String(error);
  }
}

/** Resolves once the runner has the requests and is held in its stage, or struck by itself. */
async function requestsAreInside(
  { node, dataDir, engine }: Scene,
  { fault, inFlight }: Cell,
): Promise<void> {
  // These strike once the engine has been given all, perhaps before the state has heard of it.
  if (fault === "exits" || fault === "garbage" || fault === "exhausts") return;
  let mostInside = 0;
  await until(node, "the requests are inside", ({ tasks }) => {
    const statuses = [...tasks.values()].map(({ taskStatus }) => taskStatus);
    mostInside = Math.max(mostInside, statuses.filter((status) => status === "Running").length);
    return mostInside === inFlight || tasks.size === 0;
  });
  assert.equal(mostInside, inFlight, "the runner had all of the requests");
  if (engine === "fake") return;
  const reached = `${dataDir}/fake.json.reached`;
  const isReached = () => Deno.stat(reached).then(() => true, () => false);
  await eventually("the engine has begun", isReached);
  await Deno.remove(reached);
}

function hit(fault: Fault, pids: readonly number[]): void {
  const signal = fault === "killed" ? "SIGKILL" : fault === "stopped" ? "SIGSTOP" : undefined;
  if (signal) { for (const pid of pids) Deno.kill(pid, signal); }
}

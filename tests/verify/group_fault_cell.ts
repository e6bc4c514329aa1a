/** One cell of the fault matrix of groups: three nodes, of which two have a rank each. */
import assert from "node:assert/strict";
import { whyNoNetwork } from "../../bench/netns.ts";
import { InstanceId, runnerIdOf } from "../../core/ids.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Answer, answerOf, type Question } from "../support/cluster_client.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { descriptorsAsBefore, settledDescriptors } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { randomLlama } from "../support/eight_heads_llama.ts";
import { TempDir } from "../support/temp_dir.ts";
import { requireAnswered } from "./group_answers.ts";
import { type GroupCell, type GroupStage, isHeldStage } from "./group_faults.ts";
import { requirePortsInUse, ringPorts, untilNothingIsLeft } from "./group_rest.ts";
import { type Site, strike } from "./group_strikes.ts";

/** How soon a client hears of a fault: an answer, or an error. */
const HEARD_MS = 10_000;

/** How long an answer is awaited; beyond `HEARD_MS`, to tell late from never. */
const ANSWER_MS_MAX = 3 * HEARD_MS;

/** Most that what is alive on a node may grow over a cell. */
const LIVE_GROWTH_SHARE_MAX = 0.05;

/** How long nodes may take to meet, to reach a stage, and to bring an instance back. */
const PATIENCE_MS = 120_000;

/** How long links are waited for: each is measured once some seconds after nodes have met. */
const MEASURED_MS = 30_000;

/** Words of a question: a prompt of several chunks, and, of a fake engine, its answer. */
const QUESTION = Array.from({ length: 40 }, (_, n) => `word${n}`).join(" ");

/** Tokens of an answer. */
const ANSWER_TOKENS = 40;

/** Small chunks, so that a prompt has a midst; several requests, so that one more is taken. */
const CONFIG = { prefillChunkTokens: 8, contextTokens: 1_024, maxConcurrentRequests: 4 };

/** Several answers of a slow client are under way at once, too. */
const CONFIG_BESIDE_SLOW = { ...CONFIG, maxConcurrentRequests: 12 };

/** Slow enough that a fake engine's answer has a midst. */
const FAKE = { stepMs: 5 };

/** What nodes held before and after a cell, of those that live through it. */
export interface GroupCellReport {
  readonly heardMs: number;
  readonly descriptors: readonly [began: number, ended: number];
  readonly liveBytes: readonly [began: number, ended: number];
}

/** The cluster, the model, and who has which part. */
interface Scene {
  readonly cluster: Cluster;
  readonly model: string;
  readonly modelPaths: readonly string[];
  readonly engine: GroupCell["engine"];
  /** A node without a rank: clients ask it, whatever happens to the others. */
  readonly api: ClusterNode;
}

/**
 * Lets a fault happen, then asserts that clients had an answer or an error in time, that the next
 * request is answered once the cause is gone, and that nothing is left: no process, no port, no
 * memory. All of it happens twice: what nodes hold is compared over the second time, after which
 * caches have what they keep.
 * @throws what does not hold.
 */
export async function measureGroupCell(cell: GroupCell): Promise<GroupCellReport> {
  const isolated = cell.fault === "partition";
  const why = isolated ? await whyNoNetwork() : undefined;
  assert.equal(why, undefined, `a partition needs a network of namespaces: ${why}`);
  await using dir = await TempDir.make();
  const engine = cell.engine === "real" ? "real" : FAKE;
  await using cluster = await startCluster({ nodes: 3, isolated, engine, isOrdered: true });
  try {
    await cluster.met(PATIENCE_MS);
    // A busy machine may fail to: then a cell's own measurements may find that thread instead.
    await eventually("links are measured", () => areMeasured(cluster), MEASURED_MS).catch(() => {});
    const scene = await sceneOf(cluster, cell, dir.path);
    await strikeOnce(scene, cell);
    const survivors = cluster.nodes.filter((node) =>
      cell.fault !== "node killed" || node === scene.api
    );
    const pids = survivors.map(({ process }) => process.pid);
    const [open, live] = [await settledDescriptors(pids), await liveBytesOf(survivors)];
    const heardMs = await strikeOnce(scene, cell);
    // Where this client asked twice at once, a connection is spare until fetch lets go of it.
    const openAfter = await descriptorsAsBefore(pids, { before: open, patienceMs: PATIENCE_MS });
    const most = Math.floor(live * (1 + LIVE_GROWTH_SHARE_MAX));
    let liveAfter = Infinity;
    // A measurement of a link that is under way holds some MB, for as long as it takes.
    await eventually("the nodes hold what they held", async () => {
      liveAfter = await liveBytesOf(survivors);
      return liveAfter <= most;
    }, PATIENCE_MS).catch((cause) => {
      throw new Error(`${cause.message}: ${liveAfter} bytes, over ${most}`);
    });
    const descriptors = [open.length, openAfter.length] as const;
    return { heardMs, descriptors, liveBytes: [live, liveAfter] };
  } catch (cause) {
    throw new Error(`${String(cause)}\n${await cluster.stderr()}`, { cause });
  }
}

/** Measuring starts a thread of its own in each node, which stays: it is no leak of a fault. */
async function areMeasured({ nodes }: Cluster): Promise<boolean> {
  const { topology: { connections } } = await (nodes[0] as ClusterNode).state();
  const isMeasured = (from: string, to: string) =>
    connections[from]?.[to]?.some((edge) => edge.bandwidthBitsPerSecond !== undefined) ?? false;
  const ids = nodes.map(({ nodeId }) => nodeId);
  // One each way: a busy machine may fail at some, which are tried again later.
  return ids.every((id) =>
    ids.some((other) => isMeasured(id, other)) && ids.some((other) => isMeasured(other, id))
  );
}

async function sceneOf(cluster: Cluster, cell: GroupCell, folder: string): Promise<Scene> {
  // A copy for each node, so that the weights of one alone can be harmed.
  const modelPaths = cluster.nodes.map(({ index }) => `${folder}/${index}/random`);
  let model = "";
  for (const [index, path] of modelPaths.entries()) {
    await randomLlama(path);
    model = (await cluster.node(index).client.addModel(path)).id;
  }
  return { cluster, model, modelPaths, engine: cell.engine, api: cluster.node(2) };
}

async function liveBytesOf(nodes: readonly ClusterNode[]): Promise<number> {
  const bytes = await Promise.all(nodes.map((node) => node.liveBytes()));
  return bytes.reduce((sum, one) => sum + one, 0);
}

/** One fault, its recovery, an answer, and the instance's end; how soon clients heard. */
async function strikeOnce(scene: Scene, cell: GroupCell): Promise<number> {
  const { cluster, model, api } = scene;
  const ranked = cluster.nodes.filter((node) => node !== api);
  // Which of them gets which rank is up to the master: both are held until that is known.
  for (const node of ranked) if (isHeldStage(cell.stage)) await node.orders.hold(cell.stage);
  const { metaInstanceId } = await api.client.createMetaInstance({
    ...{ model, minNodes: 2, nodeIds: ranked.map(({ nodeId }) => nodeId), exact: true },
    ...{ config: cell.fault === "slow client" ? CONFIG_BESIDE_SLOW : CONFIG, maxRetries: 20 },
  });
  const site = await reach(scene, cell, ranked);
  const ports = await ringPorts(api);
  if (cell.stage !== "connect") await requirePortsInUse(ranked, ports);
  const { answers, repair } = await strikeAndHear(scene, cell, site);
  await repair();
  requireAnswered(answers, await answerOfWell(scene));
  await eventually("all tasks are over", async () => {
    return Object.keys((await api.state()).tasks).length === 0;
  }, PATIENCE_MS);
  ports.push(...await ringPorts(api));
  await api.client.deleteMetaInstance(metaInstanceId);
  await eventually("runners and tasks are forgotten", async () => {
    const { runners, tasks, instances } = await api.state();
    return [runners, tasks, instances].every((table) => Object.keys(table).length === 0);
  }, PATIENCE_MS);
  await untilNothingIsLeft(cluster.nodes, { ports, patienceMs: PATIENCE_MS });
  return Math.max(...answers.map(({ tookMs }) => tookMs));
}

/** Whether clients are being answered, which the first rank does. */
function isBusyStage(stage: GroupStage): stage is "prefill" | "decode" {
  return stage === "prefill" || stage === "decode";
}

/** Brings the instance to its stage, and says where its ranks are. */
async function reach(
  scene: Scene,
  cell: GroupCell,
  ranked: readonly ClusterNode[],
): Promise<Site> {
  const { api, cluster, modelPaths } = scene;
  let nodes: readonly ClusterNode[] = [];
  await eventually("an instance is there", async () => {
    const [instance] = Object.values((await api.state()).instances).flatMap(Object.values);
    if (!instance) return false;
    const id = InstanceId.parse(instance.instanceId);
    const { nodeToRunner } = instance.shardAssignments;
    nodes = [0, 1].flatMap((rank) =>
      ranked.filter(({ nodeId }) => nodeToRunner[nodeId] === runnerIdOf(id, rank))
    );
    return nodes.length === 2;
  }, PATIENCE_MS);
  const struck = nodes[cell.rank === "first" ? 0 : 1] as ClusterNode;
  const first = nodes[0] as ClusterNode;
  const holder = isHeldStage(cell.stage) ? struck : first;
  const modelPath = modelPaths[struck.index] ?? "";
  const site: Site = {
    ...{ cluster, first, struck, holder, model: scene.model, modelPath },
    ...{ stage: cell.stage, rank: cell.rank, engine: cell.engine },
    isLoaded: cell.stage !== "connect" && cell.stage !== "load",
  };
  if (isHeldStage(cell.stage)) {
    for (const node of nodes) if (node !== holder) await node.orders.release();
    await eventually(`a rank is held in ${cell.stage}`, () => holder.orders.isHeld(), PATIENCE_MS);
  } else {
    await eventually("all ranks are ready", () => areReady(scene), PATIENCE_MS);
  }
  return site;
}

async function areReady({ api }: Scene): Promise<boolean> {
  const runners = Object.values((await api.state()).runners);
  return runners.length === 2 && runners.every((tagged) => "RunnerReady" in tagged);
}

/** Clients ask, the fault happens, and all of them hear in time. */
async function strikeAndHear(scene: Scene, cell: GroupCell, site: Site) {
  const isBusy = isBusyStage(cell.stage);
  if (isBusyStage(cell.stage)) await site.first.orders.hold(cell.stage);
  const ask = () => answerOf(scene.api.client, questionOf(scene), ANSWER_MS_MAX);
  const asked = isBusy ? [ask(), ask()] : [];
  if (isBusy) await eventually("a request is held", () => site.first.orders.isHeld(), PATIENCE_MS);
  const startedAt = performance.now();
  const repair = await strike(cell.fault, site);
  await site.holder.orders.release();
  // Those that come afterwards are owed an end just as much.
  const answers = await Promise.all([...asked, ask()]);
  const told = answers.map(({ end, tookMs }) => `${end} after ${Math.round(tookMs)} ms`).join("; ");
  assert.ok(performance.now() - startedAt < HEARD_MS, `a client waited too long: ${told}`);
  return { answers, repair };
}

function questionOf({ model }: Scene): Question {
  return { model, content: QUESTION, maxTokens: ANSWER_TOKENS };
}

/** Waits until the instance is back, asks as clients did, and expects a whole answer. */
async function answerOfWell(scene: Scene): Promise<Answer> {
  await eventually("all ranks are ready again", () => areReady(scene), PATIENCE_MS).catch(
    async (cause) => {
      const { runners, instanceRetries, metaInstances } = await scene.api.state();
      throw new Error(
        `${cause.message}: ${JSON.stringify({ runners, instanceRetries, metaInstances })}`,
      );
    },
  );
  const answer = await answerOf(scene.api.client, questionOf(scene), ANSWER_MS_MAX);
  assert.ok(answer.isWhole, `the next request ended with ${answer.end}, ${answer.pieces} pieces`);
  if (scene.engine === "fake") assert.equal(answer.text, QUESTION);
  return answer;
}

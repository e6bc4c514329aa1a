/** Two sides of a partition that go on by themselves, under load, and become one again. */
import assert from "node:assert/strict";
import type { StateView } from "../../api/client_state.ts";
import { type Cluster, TINY_MODEL } from "../support/cluster.ts";
import { ClusterLoad, type LoadReport } from "../support/cluster_load.ts";
import { loggedState } from "../support/cluster_state.ts";
import { eventually } from "../support/eventually.ts";
import { Random } from "../support/random.ts";
import { Fork } from "./fork.ts";
import { instancesOf, ms, settled, threeThatMet } from "./three_nodes.ts";
import { type User, Wishes } from "./wishes.ts";

/** From when a partition is healed until all nodes hold the same state. */
const HEALED_MS_MAX = 5_000;
/** Until a client has an end of its answer, and until a task is over, whatever is cut. */
const TASK_MS_MAX = 10_000;

/** Share of partitions that must leave two histories behind, both with something of a user's. */
const MERGED_SHARE_MIN = 0.5;

/** How long a partition lasts: shorter than a node's absence may be, and, now and then, longer. */
const SHORT_MS = 2_000;
const SHORT_SPREAD_MS = 3_000;
const LONG_MS = 34_000;
const LONG_EVERY = 5;

const LOAD = { clients: 4, wordsMax: 30, answerMsMax: 6 * TASK_MS_MAX };
const STEP_MS = 10;
/** Seeds that a user may have. */
const SEEDS = 2 ** 32;
const AFTER_REFUSAL_MS = 250;

/** Which partitions are made, and who hears of them. */
export interface PartitionOptions {
  readonly seed: number;
  readonly from: number;
  readonly to: number;
  readonly say: (line: string) => void;
}

/**
 * Cuts one node off from two others, which a seed draws, lets users ask both sides for things, and
 * heals; asserts that all is as it should be after each.
 * @throws what did not hold.
 */
export async function partitionAndHeal(options: PartitionOptions): Promise<void> {
  await using cluster = await threeThatMet({ engine: { stepMs: STEP_MS } });
  let model = "";
  for (const { client } of cluster.nodes) model = (await client.addModel(TINY_MODEL)).id;
  const wishes = new Wishes(model);
  for (const node of cluster.nodes.slice(0, 2)) await wishes.declare(node);
  await settled(cluster, cluster.node(0), wishes.count);
  // What both sides of the first partition know.
  await cluster.agree(HEALED_MS_MAX);
  const merges: boolean[] = [];
  for (let round = options.from; round <= options.to; round++) {
    try {
      merges.push(await onePartition(cluster, { round, model, wishes, options }));
    } catch (cause) {
      const said = await cluster.stderr();
      throw new Error(`Partition ${round}: ${String(cause)}\n${said}`, { cause });
    }
  }
  const merged = merges.filter(Boolean).length;
  const isEnough = merged >= merges.length * MERGED_SHARE_MIN;
  assert.ok(isEnough, `${merged} of ${merges.length} partitions had two sides to merge`);
}

interface Round {
  readonly round: number;
  readonly model: string;
  readonly wishes: Wishes;
  readonly options: PartitionOptions;
}

/** Whether both sides had acknowledged something when it was healed. */
async function onePartition(cluster: Cluster, about: Round): Promise<boolean> {
  const { round, model, wishes, options } = about;
  const seed = options.seed * 1_000 + round;
  const random = new Random(seed);
  const alone = random.below(cluster.nodes.length);
  const others = cluster.nodes.map(({ index }) => index).filter((index) => index !== alone);
  const master = (await cluster.master()).index;
  const isLong = round % LONG_EVERY === 0;
  const lastsMs = isLong ? LONG_MS : SHORT_MS + random.below(SHORT_SPREAD_MS);

  const load = new ClusterLoad(cluster, { ...LOAD, model, seed });
  await answersFromAll(cluster, load);
  const hosts = await hostsIn(cluster);
  await cluster.network.cut([alone], others);
  const victims = wishes.victims(random);
  const sides = [alone, random.pick(others)].map((index) => cluster.node(index));
  const users: User[] = sides.map((node) => ({
    ...{ node, when: `in partition ${round}`, victims },
    // Of its own: who draws next depends on how fast the sides are.
    random: new Random(random.below(SEEDS)),
  }));
  const acknowledged = new Set<User>();
  let isCut = true;
  // A side that refuses is asked again, as users do.
  const asked = Promise.all(users.map(async (user) => {
    while (isCut && !acknowledged.has(user)) {
      if (await wishes.ask(user)) acknowledged.add(user);
      else await pause(AFTER_REFUSAL_MS);
    }
  }));
  await pause(lastsMs);
  isCut = false;
  const isForked = acknowledged.size === users.length;
  const fork = isForked ? await Fork.between(sides) : undefined;
  await cluster.network.heal();
  const healedAt = performance.now();
  // A request that is under way may take longer than the sides may take to become one.
  const [mergedMs] = await Promise.all([requireMerged(cluster, { wishes, fork, healedAt }), asked]);
  // Clients have asked all the time; they do not wait in vain now.
  await answersFromAll(cluster, load);
  await load.stopAsking();
  const refused = wishes.refusals.join("; ") || "none";
  await requireOrder(cluster, wishes);
  const report = await load.stop();
  requireEnded(report);
  const masters = `${master} to ${(await cluster.master()).index}`;
  options.say(
    `partition ${round}: node ${alone} from ${others.join(" and ")} for ${ms(lastsMs)}, master ` +
      `${masters}; one state ${ms(mergedMs)} after, ${fork ? "merged" : "nothing to merge"}; ` +
      `instances were on ${hosts}; ${wishes.count} wishes; refused: ${refused}; ${told(report)}`,
  );
  return isForked;
}

/** Waits until each client may have had an answer, and each node has given one, all from now on. */
async function answersFromAll({ nodes }: Cluster, load: ClusterLoad): Promise<void> {
  const now = performance.now();
  const enough = load.report().whole + LOAD.clients;
  const silent = () => {
    const { askedWholeAt } = load.report();
    return nodes.filter(({ index }) => (askedWholeAt.get(index) ?? -Infinity) < now);
  };
  const answered = () => silent().length === 0 && load.report().whole >= enough;
  await eventually("all nodes answer clients", answered, TASK_MS_MAX)
    .catch((cause) => {
      const which = silent().map(({ index }) => index).join(" and ") || "none";
      throw new Error(`${cause.message}: silent nodes: ${which}; ${told(load.report())}`, {
        cause,
      });
    });
}

/** Which nodes the instances are on: a side without any cannot answer until it has placed some. */
async function hostsIn(cluster: Cluster): Promise<string> {
  const nodes = instancesOf(await cluster.node(0).state())
    .flatMap(([, { shardAssignments }]) => Object.keys(shardAssignments.nodeToRunner));
  return nodes.map((nodeId) => cluster.byId(nodeId).index).toSorted().join(", ");
}

interface Merging {
  readonly wishes: Wishes;
  readonly fork: Fork | undefined;
  readonly healedAt: number;
}

/**
 * Ms from healing until all nodes hold one state that has all that was promised. States are equal a
 * moment before that: a side that gives way takes over the other's state first, and brings then
 * what was asked for on its own.
 */
async function requireMerged(
  cluster: Cluster,
  { wishes, fork, healedAt }: Merging,
): Promise<number> {
  let [wrong, texts]: [string[], string[]] = [[], []];
  const limitMs = HEALED_MS_MAX - (performance.now() - healedAt);
  await eventually("the sides are one, and all promises are kept", async () => {
    // First: the states that are compared come after the merge.
    const isMerged = await fork?.isMerged() ?? true;
    const states = await Promise.all(cluster.running.map((node) => node.state()));
    texts = states.map(loggedState);
    wrong = [
      ...(isMerged ? [] : [`no event has merged ${fork}`]),
      ...(new Set(texts).size === 1 ? [] : ["states differ"]),
      ...states.flatMap((state, at) => wishes.brokenIn(state, `on node ${at}`)),
    ];
    return wrong.length === 0;
  }, limitMs).catch((cause) => {
    throw new Error(`${cause.message}: ${wrong.join(", ")}\n${texts.join("\n")}`, { cause });
  });
  return performance.now() - healedAt;
}

/** All that was promised is there, one instance for each wish, and nothing else; and it serves. */
async function requireOrder(cluster: Cluster, wishes: Wishes): Promise<void> {
  const node = cluster.node(0);
  let wrong = "";
  await eventually("there is one instance for each wish", async () => {
    wrong = disorderIn(await node.state());
    return wrong === "";
  }, HEALED_MS_MAX).catch((cause) => {
    throw new Error(`${cause.message}: ${wrong}`, { cause });
  });
  wishes.takeUp(await node.state());
  const state = await settled(cluster, node, wishes.count);
  assert.deepEqual(wishes.brokenIn(state, "in the end"), []);
  assert.equal(disorderIn(state), "");
  await cluster.agree(HEALED_MS_MAX);
}

/** What there is too much or too little of. */
function disorderIn(state: StateView): string {
  const owners = instancesOf(state).map(([, { metaInstanceId }]) => metaInstanceId);
  const wrong: string[] = [];
  for (const id of Object.keys(state.metaInstances)) {
    const count = owners.filter((owner) => owner === id).length;
    if (count !== 1) wrong.push(`${count} instances of meta-instance ${id}`);
  }
  for (const owner of owners) {
    const isOrphan = owner !== undefined && !(owner in state.metaInstances);
    if (isOrphan) wrong.push(`an instance of meta-instance ${owner}, which is gone`);
  }
  return wrong.join(", ");
}

function requireEnded(report: LoadReport): void {
  const { longest, oldestTask } = report;
  assert.ok(longest.tookMs <= TASK_MS_MAX, `an answer had no end in time: ${told(report)}`);
  const { ageMs, node, task } = oldestTask;
  const which = `${JSON.stringify(task)}, as node ${node} saw it`;
  assert.ok(ageMs <= TASK_MS_MAX, `${which}, was not over in time: ${told(report)}`);
}

function told({ whole, broken, longest, oldestTask }: LoadReport): string {
  const errors = [...broken].map(([error, count]) => `${count} ${error}`).join("; ") || "none";
  const { tookMs, pieces, end } = longest;
  return `${whole} answers; longest ${ms(tookMs)}, with ${pieces} pieces: ${end}; ` +
    `oldest task ${ms(oldestTask.ageMs)}; broken: ${errors}`;
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

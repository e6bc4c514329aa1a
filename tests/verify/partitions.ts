/** Two sides of a partition that go on by themselves, under load, and become one again. */
import assert from "node:assert/strict";
import type { StateView } from "../../api/client_state.ts";
import { type Cluster, TINY_MODEL } from "../support/cluster.ts";
import { ClusterLoad, type LoadReport } from "../support/cluster_load.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually } from "../support/eventually.ts";
import { Random } from "../support/random.ts";
import { ms, settled, threeThatMet } from "./three_nodes.ts";

/** From when a partition is healed until all nodes hold the same state. */
const HEALED_MS_MAX = 5_000;
/** Until a client has an end of its answer, and until a task is over, whatever is cut. */
const TASK_MS_MAX = 10_000;

/** How long a partition lasts: shorter than a node's absence may be, and, now and then, longer. */
const SHORT_MS = 2_000;
const SHORT_SPREAD_MS = 3_000;
const LONG_MS = 34_000;
const LONG_EVERY = 5;

/** Things that users have asked for, at most. */
const WISHES_MAX = 4;
const LOAD = { clients: 4, wordsMax: 30, answerMsMax: 6 * TASK_MS_MAX };
const STEP_MS = 10;

/** Which partitions are made, and who hears of them. */
export interface PartitionOptions {
  readonly seed: number;
  readonly from: number;
  readonly to: number;
  readonly say: (line: string) => void;
}

/** Something that a user has asked for. */
interface Wish {
  readonly kind: "instance" | "meta-instance";
  readonly by: string;
}

/** What the nodes have acknowledged, and who did when. */
interface Ledger {
  readonly created: Map<string, Wish>;
  readonly deleted: Map<string, string>;
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
  const ledger: Ledger = { created: new Map(), deleted: new Map() };
  for (const { client } of cluster.nodes.slice(0, 2)) {
    const { metaInstanceId } = await client.createMetaInstance({ model });
    ledger.created.set(metaInstanceId, { kind: "meta-instance", by: "a node before all" });
  }
  await settled(cluster, cluster.node(0), ledger.created.size);
  for (let round = options.from; round <= options.to; round++) {
    try {
      await onePartition(cluster, { round, model, ledger, options });
    } catch (cause) {
      const said = await cluster.stderr();
      throw new Error(`Partition ${round}: ${String(cause)}\n${said}`, { cause });
    }
  }
}

interface Round {
  readonly round: number;
  readonly model: string;
  readonly ledger: Ledger;
  readonly options: PartitionOptions;
}

async function onePartition(cluster: Cluster, about: Round): Promise<void> {
  const { round, model, ledger, options } = about;
  const seed = options.seed * 1_000 + round;
  const random = new Random(seed);
  const alone = random.below(cluster.nodes.length);
  const others = cluster.nodes.map(({ index }) => index).filter((index) => index !== alone);
  const master = (await cluster.master()).index;
  const isLong = round % LONG_EVERY === 0;
  const lastsMs = isLong ? LONG_MS : SHORT_MS + random.below(SHORT_SPREAD_MS);

  const load = new ClusterLoad(cluster, { ...LOAD, model, seed });
  await eventually("clients get answers", () => load.report().whole >= LOAD.clients);
  const hosts = await hostsIn(cluster);
  await cluster.network.cut([alone], others);
  const sides = [alone, random.pick(others)].map((index) => cluster.node(index));
  const wishes = Promise.all(sides.map((side) => wish(side, about, random)));
  await pause(lastsMs);
  await cluster.network.heal();
  const healedAt = performance.now();
  const [equalMs, keptMs, report] = await Promise.all([
    cluster.agree(HEALED_MS_MAX),
    wishes.then(() => requirePromises(cluster, ledger, healedAt)),
    load.stop(),
  ]);
  await requireOrder(cluster, ledger);
  requireEnded(report);
  options.say(
    `partition ${round}: node ${alone} from ${others.join(" and ")} for ${ms(lastsMs)}, master ` +
      `${master} to ${(await cluster.master()).index}; equal ${ms(equalMs)} after, ` +
      `promises kept ${ms(keptMs)} after; ` +
      `instances were on ${hosts}; ${ledger.created.size} wishes; ${told(report)}`,
  );
}

/** Which nodes the instances are on: a side without any cannot answer until it has placed some. */
async function hostsIn(cluster: Cluster): Promise<string> {
  const nodes = instancesOf(await cluster.node(0).state())
    .flatMap(([, { shardAssignments }]) => Object.keys(shardAssignments.nodeToRunner));
  return nodes.map((nodeId) => cluster.byId(nodeId).index).toSorted().join(", ");
}

/** Asks one side for something, or takes something away; an answer that is not heard is no promise. */
async function wish(
  { client, index }: ClusterNode,
  { round, model, ledger: { created, deleted } }: Round,
  random: Random,
): Promise<void> {
  const [choice, kind] = [random.next(), random.next()];
  const victim = random.pick([...created.keys()]);
  const cutAt = performance.now();
  const by = () =>
    `node ${index}, ${ms(performance.now() - cutAt)} after the cut of partition ${round}`;
  try {
    if (created.size >= WISHES_MAX || (created.size > 1 && choice < 0.5)) {
      const of = created.get(victim);
      // From here on it may be gone; it must be, once that is acknowledged.
      created.delete(victim);
      if (of?.kind === "instance") await client.deleteInstance(victim);
      else await client.deleteMetaInstance(victim);
      deleted.set(victim, by());
    } else if (kind < 0.5) {
      const { instanceId } = await client.placeInstance({ model });
      created.set(instanceId, { kind: "instance", by: by() });
    } else {
      const { metaInstanceId } = await client.createMetaInstance({ model });
      created.set(metaInstanceId, { kind: "meta-instance", by: by() });
    }
  } catch {
    // A side that has no master yet may refuse; whether it happened shows later.
  }
}

/**
 * Ms from healing until all that was promised is so. States are equal a moment before: a side that
 * gives way takes over the other's state first, and brings then what was asked for on its own.
 */
async function requirePromises(
  cluster: Cluster,
  ledger: Ledger,
  healedAt: number,
): Promise<number> {
  let broken: string[] = [];
  await eventually("all promises are kept on all nodes", async () => {
    const states = await Promise.all(cluster.running.map((node) => node.state()));
    broken = states.flatMap((state, at) => brokenIn(state, ledger, `on node ${at}`));
    return broken.length === 0;
  }, HEALED_MS_MAX).catch((cause) => {
    throw new Error(`${cause.message}: ${broken.join(", ")}`, { cause });
  });
  return performance.now() - healedAt;
}

/** What was promised and is not so. */
function brokenIn(state: StateView, { created, deleted }: Ledger, where: string): string[] {
  const has = (id: string) => id in state.instances || id in state.metaInstances;
  return [
    ...[...created].filter(([id]) => !has(id))
      .map(([id, { kind, by }]) => `${kind} ${id} was lost ${where}, which ${by}, had created`),
    ...[...deleted].filter(([id]) => has(id))
      .map(([id, by]) => `${id} came back ${where}, which ${by}, had deleted`),
  ];
}

/** All that was promised is there, one instance for each wish, and nothing else; and it serves. */
async function requireOrder(cluster: Cluster, ledger: Ledger): Promise<void> {
  const node = cluster.node(0);
  let wrong = "";
  await eventually("there is one instance for each wish", async () => {
    wrong = disorderIn(await node.state());
    return wrong === "";
  }, HEALED_MS_MAX).catch((cause) => {
    throw new Error(`${cause.message}: ${wrong}`, { cause });
  });
  const state = await node.state();
  assert.deepEqual(brokenIn(state, ledger, "in the end"), []);
  const { instances, metaInstances } = state;
  // What nobody heard of is taken up, so that it is counted and cleared away like the rest.
  const takeUp = (id: string, kind: Wish["kind"]) => {
    if (!ledger.created.has(id)) ledger.created.set(id, { kind, by: "somebody unheard" });
  };
  for (const id of Object.keys(metaInstances)) takeUp(id, "meta-instance");
  for (const [id, { metaInstanceId }] of instancesOf({ instances })) {
    if (metaInstanceId === undefined) takeUp(id, "instance");
  }
  await settled(cluster, node, ledger.created.size);
  await cluster.agree(HEALED_MS_MAX);
}

function instancesOf({ instances }: Pick<StateView, "instances">) {
  return Object.entries(instances).flatMap(([id, tagged]) =>
    Object.values(tagged).map((instance) => [id, instance] as const)
  );
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

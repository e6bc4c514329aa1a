/** What a master's death may not disturb: an answer under way, and what was asked of it before. */
import assert from "node:assert/strict";
import type { StateView } from "../../api/client_state.ts";
import { type Cluster, TINY_MODEL } from "../support/cluster.ts";
import { type Answer, answerOf, type Question } from "../support/cluster_client.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually } from "../support/eventually.ts";
import { setLink } from "../support/instance_links.ts";
import type { Say } from "./tally.ts";
import { DISCOVERY_MS_MAX, ms, placeOn, rolesOf, settled, threeThatMet } from "./three_nodes.ts";

/** From the death of a master until the next one has carried out a command. */
const SUCCESSION_MS_MAX = 3_000;
/** From when a node serves again until it has all that it missed. */
const RETURN_MS_MAX = 2_000;

/** Tokens of the answer under which the master dies, and how long each takes. */
const TOKENS = Array.from({ length: 200 }, (_, n) => `word-${n} `);
const STEP_MS = 20;
const PIECES_BEFORE_DEATH = 40;
const ANSWER_MS_MAX = 120_000;
/** The finish reasons of an answer to which nothing happened. */
const NORMAL_ENDS: ReadonlySet<string> = new Set(["stop", "length"]);

/** A model that computes, where the default is a fake engine. */
export interface RealModel {
  readonly path: string;
  readonly content: string;
  readonly maxTokens: number;
}

/** Kills the master under an answer that a client gets from the other two, and brings it back. */
export async function killMaster(say: Say, real?: RealModel): Promise<void> {
  const engine = real ? "real" : { tokens: TOKENS, stepMs: STEP_MS };
  await using cluster = await threeThatMet({ engine });
  const { master, worker, api } = await rolesOf(cluster);
  const { model, instanceId } = await placeOn(worker, real?.path ?? TINY_MODEL);
  await api.client.createMetaInstance({ model, nodeIds: [worker.nodeId] });
  const before = await settled(cluster, api, 2);

  const { content, maxTokens } = real ?? { content: "say it", maxTokens: TOKENS.length };
  const question = { model, content, maxTokens };
  const undisturbed = await answerOf(api.client, question, ANSWER_MS_MAX);
  assert.ok(NORMAL_ENDS.has(undisturbed.end), `it ends with ${undisturbed.end} without a kill`);
  requireSame(undisturbed, real ? undisturbed : { ...undisturbed, text: TOKENS.join("") });
  await settled(cluster, api, 2);

  const { nodeId } = master;
  const { answer, actedMs } = await underDeath(question, api, async () => {
    await master.end("SIGKILL");
    return await succeeded(api, instanceId);
  });
  requireSame(answer, undisturbed);
  say(
    `  ${answer.pieces} pieces as without the kill; longest silence ${ms(answer.longestGapMs)}, ` +
      `${ms(undisturbed.longestGapMs)} without`,
  );
  assert.ok(actedMs <= SUCCESSION_MS_MAX, `a new master acted only after ${ms(actedMs)}`);
  say(`  a new master has acted ${ms(actedMs)} after the kill`);
  for (const node of [worker, api]) await requireKept(node, before);
  await requireReturn(cluster, master, nodeId, say);
  for (const node of cluster.nodes) await requireKept(node, before);
}

/** Asks, and has `die` happen in the midst of the answer. */
async function underDeath(
  question: Question,
  api: ClusterNode,
  die: () => Promise<number>,
): Promise<{ readonly answer: Answer; readonly actedMs: number }> {
  let acted: Promise<number> | undefined;
  const onPiece = (pieces: number) => {
    if (pieces === PIECES_BEFORE_DEATH) acted = die();
  };
  const answer = await answerOf(api.client, { ...question, onPiece }, ANSWER_MS_MAX);
  assert.ok(acted, `the answer had only ${answer.pieces} pieces: ${answer.end}`);
  return { answer, actedMs: await acted };
}

function requireSame({ end, isWhole, pieces, text }: Answer, expected: Answer): void {
  assert.ok(isWhole, `the answer ended with ${end} after ${pieces} pieces`);
  assert.equal(text, expected.text, "no token is lost, and none comes twice");
  assert.equal(end, expected.end, "it ends as it does without a kill");
}

/** Ms until a command has been carried out, which starts nothing that computes. */
async function succeeded(api: ClusterNode, instanceId: string): Promise<number> {
  const startedAt = performance.now();
  let refusal: unknown;
  await eventually("a new master acts", async () => {
    try {
      await setLink(api.client.url, [instanceId], [instanceId]);
      return true;
    } catch (cause) {
      refusal = cause;
      return false;
    }
  }).catch((cause) => {
    throw new Error(`${cause.message}: ${String(refusal)}`, { cause });
  });
  return performance.now() - startedAt;
}

/** Under another master, a node knows of all that there was before, and of nothing more. */
async function requireKept(node: ClusterNode, before: StateView): Promise<void> {
  const after = await node.state();
  const where = `on node ${node.index}`;
  assert.ok(after.session, `there is a master ${where}`);
  assert.notEqual(after.session.masterNodeId, before.session?.masterNodeId, where);
  const ids = (table: object) => Object.keys(table).toSorted();
  assert.deepEqual(ids(after.instances), ids(before.instances), where);
  assert.deepEqual(ids(after.metaInstances), ids(before.metaInstances), where);
}

/** The old master comes back as whom it was, and follows. */
async function requireReturn(
  cluster: Cluster,
  old: ClusterNode,
  nodeId: string,
  say: Say,
): Promise<void> {
  const successor = await cluster.master();
  await old.start();
  assert.equal(old.nodeId, nodeId, "its identity is what it was");
  const metMs = await cluster.met(DISCOVERY_MS_MAX);
  const agreedMs = await cluster.agree(RETURN_MS_MAX);
  assert.equal((await cluster.master()).nodeId, successor.nodeId, "the new master stays");
  say(`  the old one is back: edges after ${ms(metMs)}, equal ${ms(agreedMs)} later`);
}

/**
 * Whole stories of members on a wire, as transcripts: `tests/golden/members/`, which
 * `deno test -A tests/core/member_transcripts_test.ts -- --update` rewrites.
 */
import { deepEqual, equal } from "node:assert/strict";
import type { Command } from "../../core/commands.ts";
import {
  CAMPAIGN_MS,
  FORCED_SENIORITY,
  LEASE_MS,
  NON_CANDIDATE_SENIORITY,
  STAGGER_MS,
} from "../../core/election.ts";
import type { Event } from "../../core/events.ts";
import { NO_FACTS } from "../../core/facts.ts";
import { ModelId, type NodeId } from "../../core/ids.ts";
import { LINEAGE_SEGMENTS_MAX } from "../../core/lineage.ts";
import { hasLeft } from "../../core/member.ts";
import { HEAD_WAIT_MS } from "../../core/member_election.ts";
import { HEARTBEAT_MS } from "../../core/member_master.ts";
import type { Message } from "../../core/protocol.ts";
import { A, B, C, cardOf, commandId, nodeStarted } from "../support/fixtures.ts";
import { Members } from "../support/members.ts";

const FOLDER = new URL("../golden/members/", import.meta.url);

/** Messages that a transcript tells of; the others are the same three times a second. */
const TOLD: ReadonlySet<Message["type"]> = new Set([
  "Candidacy",
  "Objection",
  "SyncRequest",
  "Snapshot",
  "HeadRequest",
  "HeadState",
  "CommandRequest",
  "CommandAnswer",
]);

function members(): Members {
  const world = new Members();
  world.isTold = ({ type }) => TOLD.has(type);
  return world;
}

/** Starts nodes, each of which reports that it has. */
function start(world: Members, ...nodeIds: readonly NodeId[]): void {
  for (const nodeId of nodeIds) {
    world.start(nodeId);
    report(world, nodeId);
  }
}

function report(world: Members, nodeId: NodeId, incarnation = 1): void {
  const reports = new Map<string, Event>([["node", nodeStarted(nodeId, incarnation)]]);
  world.give(nodeId, { type: "Facts", facts: { ...NO_FACTS, reports } });
}

/** Three nodes of which C leads, with a card `local/old`. */
function threeNodes(): Members {
  const world = members();
  start(world, A, B, C);
  world.run(3_000);
  equal(world.agreed().nodeId, C);
  world.ask(B, add("c0", "old"));
  world.run(1_000);
  world.transcript.length = 0;
  return world;
}

function add(id: string, name: string): Command {
  const modelCard = cardOf({ modelId: ModelId.parse(`local/${name}`) });
  return { type: "AddCustomModelCard", commandId: commandId(id), modelCard };
}

function remove(id: string, name: string): Command {
  const modelId = ModelId.parse(`local/${name}`);
  return { type: "DeleteCustomModelCard", commandId: commandId(id), modelId };
}

function cards(world: Members): string[] {
  return [...world.agreed().state.customModelCards.keys()];
}

function cut(world: Members, ...pairs: readonly (readonly [NodeId, NodeId])[]): void {
  world.wire = (from, to) => (pairs.some(([a, b]) => a === from && b === to) ? [] : [1]);
}

/** Compares a transcript with its golden file. */
function check(name: string, world: Members): void {
  const path = new URL(`${name}.txt`, FOLDER);
  const text = `${world.transcript.join("\n")}\n`;
  if (Deno.args.includes("--update")) {
    Deno.mkdirSync(FOLDER, { recursive: true });
    Deno.writeTextFileSync(path, text);
  }
  equal(text, Deno.readTextFileSync(path));
}

Deno.test("three nodes that start together agree on one master", () => {
  const world = members();
  start(world, A, B, C);
  world.run(3_000);
  world.agreed();
  check("start", world);
});

Deno.test("a lone node leads soon, at once when it knows that it is alone", () => {
  const world = members();
  start(world, A);
  world.run(3_000);
  world.kill(A);
  world.start(A, { isAlone: true });
  equal(world.agreed().epoch?.clock, 2);
  check("lone", world);
});

Deno.test("a node joins by a snapshot when the master's tail does not reach back", () => {
  const world = members();
  world.start(A, { isAlone: true });
  report(world, A);
  world.ask(A, add("c1", "one"));
  world.kill(A);
  world.start(A, { isAlone: true });
  start(world, B);
  world.run(2_000);
  world.agreed();
  check("join", world);
});

Deno.test("a follower with a gap asks for what it lacks", () => {
  const world = threeNodes();
  world.wire = (_, to, { type }) => (to === A && type === "Events" ? [] : [1]);
  world.ask(B, add("c1", "one"));
  world.run(300);
  world.wire = () => [1];
  world.ask(B, add("c2", "two"));
  world.run(1_000);
  world.agreed();
  check("gap", world);
});

Deno.test("when the master is killed another goes on from its state within 3 s", () => {
  const world = threeNodes();
  const killedAt = world.uptime;
  world.kill(C, false);
  world.run(3_000);
  const master = world.agreed();
  equal(cards(world).join(), "local/old");
  const elected = world.transcript.find((line) => line.endsWith(`${master.nodeId} leads 2`));
  equal(Number.parseInt(elected ?? "") - killedAt < 3_000, true);
  check("master_killed", world);
});

Deno.test("an old master that returns follows the new one, and what it alone had is merged", () => {
  const world = threeNodes();
  cut(world, [C, A], [C, B], [A, C], [B, C]);
  world.ask(C, add("c1", "lonely"));
  world.run(1_500);
  world.kill(C);
  world.run(3_000);
  world.wire = () => [1];
  world.start(C);
  report(world, C, 2);
  world.run(4_000);
  deepEqual(cards(world), ["local/old", "local/lonely"]);
  check("old_master_returns", world);
});

Deno.test("a partition heals: what was asked for and deleted on both sides holds", () => {
  const world = threeNodes();
  cut(world, [C, A], [C, B], [A, C], [B, C]);
  world.run(5_000);
  world.ask(C, add("c1", "minority"));
  world.ask(C, remove("c2", "old"));
  world.ask(A, add("c3", "majority"));
  world.run(3_000);
  world.wire = () => [1];
  world.run(5_000);
  deepEqual(cards(world).toSorted(), ["local/majority", "local/minority"]);
  check("partition", world);
});

Deno.test("a follower that restarts takes the tail, and nobody else notices", () => {
  const world = threeNodes();
  world.kill(A);
  world.ask(B, add("c1", "one"));
  world.run(1_000);
  world.start(A);
  report(world, A, 2);
  world.run(2_000);
  equal(world.agreed().epoch?.clock, 1);
  check("follower_restarts", world);
});

Deno.test("commands across a change of master: made, lost, sent anew", () => {
  const world = threeNodes();
  // The master hears commands and is heard by A alone, then dies: B has no answer.
  world.wire = (from, to) => (from === C && to === B ? [] : [1]);
  world.ask(B, add("made", "made"));
  world.ask(B, remove("again", "old"));
  world.run(100);
  world.wire = (from, to, { type }) =>
    (from === C && to === B) || (to === C && type === "CommandRequest") ? [] : [1];
  world.ask(B, add("lost", "lost"));
  world.run(600);
  world.kill(C);
  world.wire = () => [1];
  world.run(4_000);
  deepEqual(cards(world), ["local/made"]);
  deepEqual(
    Object.fromEntries(world.replies.map(({ reply }) => [reply.commandId, outcome(reply)])),
    {
      c0: "accepted",
      made: "accepted",
      again: "accepted",
      lost: "master_changed",
    },
  );
  check("commands_across_a_change", world);
});

function outcome(reply: Members["replies"][number]["reply"]): string {
  return reply.type === "CommandAccepted" ? "accepted" : reply.error.code;
}

Deno.test("a forced candidate leads among equals, a non-candidate never", () => {
  const world = members();
  world.start(A, { seniority: FORCED_SENIORITY });
  world.start(C, { seniority: NON_CANDIDATE_SENIORITY });
  start(world, B);
  world.run(4_000);
  equal(world.agreed().nodeId, A);
  world.kill(A);
  world.run(4_000);
  equal(world.agreed().nodeId, B);
  world.kill(B);
  world.run(4_000);
  equal(world.get(C).role, "candidate");
  check("forced", world);
});

Deno.test("a node that hears nobody leads alone; the others' master rises above it, once", () => {
  const world = threeNodes();
  cut(world, [C, A], [B, A]);
  world.run(20_000);
  deepEqual([A, B, C].map((id) => world.get(id).epoch?.clock), [2, 3, 3]);
  equal(world.get(C).role, "master");
  world.wire = () => [1];
  world.run(2_000);
  equal(world.agreed().epoch?.clock, 3);
  check("deaf", world);
});

Deno.test("a node that lost the way to its master is told that it lives", () => {
  const world = threeNodes();
  cut(world, [C, A]);
  world.run(3_000);
  equal(world.get(C).role, "master");
  world.wire = () => [1];
  world.run(3_000);
  equal(world.agreed().epoch?.clock, 1);
  check("one_way", world);
});

Deno.test("an elected node without the newest head goes on from it", () => {
  const world = threeNodes();
  world.kill(B);
  world.ask(C, add("c1", "newest"));
  world.run(1_500);
  world.kill(C);
  world.kill(A);
  world.start(A);
  world.start(B, { seniority: 5 });
  world.run(4_000);
  equal(world.agreed().nodeId, B);
  deepEqual(cards(world), ["local/old", "local/newest"]);
  check("newest_head", world);
});

Deno.test("a fresh node that leads alone gives way to a cluster's node that returns", () => {
  const world = members();
  world.start(A, { isAlone: true });
  world.kill(A);
  world.start(A, { isAlone: true });
  world.ask(A, add("c1", "one"));
  world.kill(A);
  world.start(B, { isAlone: true });
  world.ask(B, add("c2", "two"));
  world.start(A);
  world.run(5_000);
  deepEqual(cards(world), ["local/one", "local/two"]);
  equal(world.agreed().nodeId, A);
  check("fresh_node_gives_way", world);
});

/**
 * A node is stopped as `node/control_plane.ts` does it, and takes a while to end; how long it took to
 * tell the others.
 */
function stop(world: Members, nodeId: NodeId, lingersMs = 0): number {
  const since = world.uptime;
  world.tell(nodeId, "is asked to stop");
  world.give(nodeId, { type: "Leave" });
  while (!hasLeft(world.get(nodeId), world.uptime) && world.uptime < since + LEASE_MS) {
    world.run(1);
  }
  const tookMs = world.uptime - since;
  world.run(lingersMs);
  world.kill(nodeId);
  return tookMs;
}

/** When a node began to lead, after `since`. */
function ledAfter(world: Members, since: number): number {
  const line = world.transcript.find((line) => /leads \d+$/.test(line) && timeOf(line) > since);
  return timeOf(line ?? "") - since;
}

function timeOf(line: string): number {
  return Number.parseInt(line);
}

Deno.test("a follower that stops is gone from the state at once, and comes back as it was", () => {
  const world = threeNodes();
  const tookMs = stop(world, A);
  equal(tookMs < 10, true, `it took ${tookMs} ms`);
  deepEqual([...world.agreed().state.nodes.keys()], [C, B]);
  world.start(A);
  report(world, A, 2);
  world.run(1_000);
  deepEqual([...world.agreed().state.nodes.keys()].toSorted(), [A, B, C]);
  equal(world.agreed().epoch?.clock, 1);
  check("follower_stops", world);
});

Deno.test("a master that stops has told the others before, and they elect another at once", () => {
  const world = threeNodes();
  const since = world.uptime;
  // Its runners take a second and a half to end: nobody waits for that.
  const tookMs = stop(world, C, 1_500);
  equal(tookMs < 10, true, `it took ${tookMs} ms`);
  world.run(1_500);
  equal(ledAfter(world, since) <= 10 + STAGGER_MS + CAMPAIGN_MS, true, "elected at once");
  deepEqual([...world.agreed().state.nodes.keys()].toSorted(), [A, B]);
  world.start(C);
  report(world, C, 2);
  world.run(1_000);
  deepEqual([...world.agreed().state.nodes.keys()].toSorted(), [A, B, C]);
  check("master_stops", world);
});

Deno.test("the last node says nothing when it stops, and comes back to what it had", () => {
  const world = members();
  world.start(A, { isAlone: true });
  report(world, A);
  equal(stop(world, A), 0);
  world.start(A, { isAlone: true });
  deepEqual([...world.agreed().state.nodes.keys()], [A]);
});

Deno.test("two nodes that led alone for a moment become one cluster within 2 s", () => {
  const world = members();
  world.wire = () => [];
  for (const nodeId of [A, B]) {
    world.start(nodeId, { isAlone: true });
    report(world, nodeId);
    world.ask(nodeId, add(`c-${nodeId}`, nodeId));
  }
  world.run(3_000);
  deepEqual([A, B].map((id) => world.get(id).role), ["master", "master"]);
  world.wire = () => [1];
  world.give(A, { type: "PeerConnected", peer: B });
  world.give(B, { type: "PeerConnected", peer: A });
  world.run(2_000);
  deepEqual(cards(world).toSorted(), [`local/${A}`, `local/${B}`]);
  deepEqual([...world.agreed().state.nodes.keys()].toSorted(), [A, B]);
  check("two_that_led_alone", world);
});

Deno.test("of two masters without followers the one with more behind it goes on", () => {
  for (const busy of [A, B]) {
    const world = members();
    world.wire = () => [];
    for (const nodeId of [A, B]) {
      world.start(nodeId, { isAlone: true });
      report(world, nodeId);
    }
    world.ask(busy, add("c1", "one"));
    world.run(1_000);
    world.wire = () => [1];
    world.run(2_000);
    equal(world.agreed().nodeId, busy);
  }
});

Deno.test("when the master's connections break another leads within 3 s, with time to spare", () => {
  const world = threeNodes();
  const since = world.uptime;
  world.kill(C);
  world.run(3_000);
  world.agreed();
  equal(ledAfter(world, since) <= LEASE_MS / 4 + STAGGER_MS + CAMPAIGN_MS + 10, true);
  check("master_gone", world);
});

Deno.test("when the master's cable is cut another leads within 3 s, whatever the moment", () => {
  // A lease, somebody's stagger, a round, and the wait for a newer head: that is the worst.
  equal(LEASE_MS + STAGGER_MS + CAMPAIGN_MS + HEAD_WAIT_MS < 3_000, true);
  for (let phase = 0; phase < HEARTBEAT_MS; phase += HEARTBEAT_MS / 10) {
    const world = threeNodes();
    world.run(phase);
    world.transcript.length = 0;
    const since = world.uptime;
    cut(world, [C, A], [C, B], [A, C], [B, C]);
    world.run(3_000);
    const leads = world.transcript.find((line) => /node-[ab] leads/.test(line));
    equal(timeOf(leads ?? "") - since <= LEASE_MS + STAGGER_MS + CAMPAIGN_MS + 10, true);
    if (phase === 0) check("cable_cut", world);
  }
});

Deno.test("a follower that topics do not reach is told directly, and nobody stands for election", () => {
  const world = members();
  world.start(A, { isAlone: true });
  report(world, A);
  // Of what is said to all nothing comes, as long as nodes do not know yet who listens.
  world.isBroadcastLost = true;
  start(world, B);
  world.run(5_000);
  equal(world.agreed().epoch?.clock, 1);
  equal(world.transcript.some((line) => line.includes("Candidacy")), false);
  world.isBroadcastLost = false;
  world.run(2_000);
  equal(world.agreed().epoch?.clock, 1);
  check("deaf_to_topics", world);
});

Deno.test("after 200 starts alone a node joins, with a history that is bounded", () => {
  const world = members();
  for (let nth = 1; nth <= 200; nth++) {
    world.start(A, { isAlone: true });
    report(world, A, nth);
    if (nth % 50 === 0) world.ask(A, add(`c${nth}`, `${nth}`));
    world.run(10);
    if (nth < 200) world.kill(A);
  }
  world.wire = () => [];
  world.start(B, { isAlone: true });
  report(world, B);
  world.ask(B, add("cb", "fresh"));
  world.run(500);
  world.wire = () => [1];
  world.run(2_000);
  const { state, nodeId } = world.agreed();
  equal(nodeId, A);
  deepEqual(cards(world).toSorted(), ["100", "150", "200", "50", "fresh"].map((n) => `local/${n}`));
  equal(state.lineage.segments.length <= LINEAGE_SEGMENTS_MAX, true);
  equal(state.lineage.segments.length, 201);
});

/** Rows V1 to V7 of the control plane's spec, with its rulings, and what else an election does. */
import { deepEqual, equal, ok } from "node:assert/strict";
import {
  CAMPAIGN_MS,
  CAMPAIGN_REPEAT_MS,
  type Candidacy,
  compareCandidates,
  type Election,
  type ElectionInput,
  electionWakeAt,
  FORCED_SENIORITY,
  LEASE_MS,
  newElection,
  NON_CANDIDATE_SENIORITY,
  STAGGER_MS,
  staggerMs,
  stepElection,
} from "../../core/election.ts";
import type { Head } from "../../core/lineage.ts";
import { A, B, C } from "../support/fixtures.ts";

const NOTHING: Head = { idx: -1 };
const LATE = 100_000;

function candidacy(clock: number, fields: Partial<Candidacy> = {}): Candidacy {
  return { clock, seniority: 0, head: NOTHING, ...fields };
}

/** B's election with a log and a way to talk to it. */
class Voter {
  election: Election;
  uptime = 0;
  head: Head = NOTHING;
  readonly log: string[] = [];

  constructor(seniority = 0, clock = 0) {
    this.election = newElection(B, { seniority, clock, quietUntil: LATE });
  }

  take(input: ElectionInput): this {
    const context = { uptime: this.uptime, head: this.head, epoch: this.head.epoch };
    const { election, outputs } = stepElection(this.election, input, context);
    this.election = election;
    for (const output of outputs) {
      if (output.type === "Broadcast") this.log.push(`all: ${show(output.candidacy)}`);
      if (output.type === "Send") this.log.push(`${output.to}: ${show(output.candidacy)}`);
      if (output.type === "Won") this.log.push(`won by ${[...output.voters.keys()].join(" ")}`);
      if (output.type === "Lost") this.log.push(`lost to ${output.winner}`);
    }
    return this;
  }

  hear(from: typeof A, candidacy: Candidacy): this {
    return this.take({ type: "Candidacy", from, candidacy });
  }

  wait(ms: number): this {
    this.uptime += ms;
    return this.take({ type: "Tick" });
  }
}

function show({ clock, seniority }: Candidacy): string {
  return `clock ${clock} seniority ${seniority}`;
}

Deno.test("V1: an equal peer with a lower id loses; each follower counts for seniority", () => {
  const voter = new Voter().hear(A, candidacy(1));
  deepEqual(voter.log, ["all: clock 1 seniority 0"]);
  voter.wait(CAMPAIGN_MS);
  deepEqual(voter.log.slice(1), ["won by node-a"]);
  equal(voter.election.seniority, 2);
  // That this node keeps its epoch has no counterpart: each reign begins an epoch (D15).
});

Deno.test("V2: a senior peer wins; changed by scale: the vote goes to it alone, not to all", () => {
  const voter = new Voter().hear(A, candidacy(1, { seniority: 10 }));
  deepEqual(voter.log, ["node-a: clock 1 seniority 0"]);
  voter.wait(CAMPAIGN_MS);
  deepEqual(voter.log.slice(1), ["lost to node-a"]);
  equal(voter.election.seniority, 0);
});

Deno.test("V3: a message of an older clock does not count; changed by R: it is answered", () => {
  const voter = new Voter().hear(A, candidacy(2)).hear(C, candidacy(1, { seniority: 999 }));
  deepEqual(voter.log, ["all: clock 2 seniority 0", "node-c: clock 2 seniority 0"]);
  voter.wait(CAMPAIGN_MS);
  deepEqual(voter.log.slice(2), ["won by node-a"]);
});

Deno.test("V4: each round is announced once", () => {
  const voter = new Voter().hear(A, candidacy(1)).hear(A, candidacy(2)).hear(A, candidacy(2));
  deepEqual(voter.log, ["all: clock 1 seniority 0", "all: clock 2 seniority 0"]);
});

Deno.test("V5: seniority is the number of distinct voters, with the winner; changed by R", () => {
  const voter = new Voter(2).hear(A, candidacy(7)).hear(C, candidacy(7));
  // U counts a candidate that repeats itself twice.
  voter.hear(C, candidacy(7)).hear(C, candidacy(7)).wait(CAMPAIGN_MS);
  equal(voter.log.at(-1), "won by node-a node-c");
  equal(voter.election.seniority, 3);
});

Deno.test("V6: a connection hastens a node that hears no master; changed by D15: it listens", () => {
  const voter = new Voter().take({ type: "Hasten", patienceMs: 500 });
  deepEqual(voter.log, []);
  voter.wait(500 + STAGGER_MS);
  deepEqual(voter.log, ["all: clock 1 seniority 0"]);
});

Deno.test("V7: changed by D15: the newest (epoch, index) wins, not the longest log", () => {
  const head = (clock: number, idx: number) => ({ epoch: { clock, nodeId: A }, idx });
  const voter = new Voter(0, 3);
  voter.head = head(3, 5);
  voter.hear(C, candidacy(4, { head: head(2, 50) })).wait(CAMPAIGN_MS);
  deepEqual(voter.log, ["all: clock 4 seniority 0", "won by node-c"]);
});

Deno.test("R(c): a message of the present clock begins a round when none is under way", () => {
  const voter = new Voter(0, 4).hear(A, candidacy(5));
  deepEqual(voter.log, ["all: clock 5 seniority 0"]);
});

Deno.test("a campaign that fails does not raise the clock", () => {
  const voter = new Voter().hear(C, candidacy(1)).wait(CAMPAIGN_MS);
  deepEqual(voter.log, ["node-c: clock 1 seniority 0", "lost to node-c"]);
  voter.wait(LEASE_MS + STAGGER_MS);
  equal(voter.log.at(-1), "all: clock 1 seniority 0");
});

Deno.test("a candidate repeats itself, and a voter its vote", () => {
  const best = new Voter().hear(A, candidacy(1));
  best.wait(1).wait(CAMPAIGN_REPEAT_MS);
  deepEqual(best.log, ["all: clock 1 seniority 0", "all: clock 1 seniority 0"]);
  const other = new Voter().hear(C, candidacy(1)).wait(CAMPAIGN_REPEAT_MS);
  deepEqual(other.log, ["node-c: clock 1 seniority 0", "node-c: clock 1 seniority 0"]);
});

Deno.test("a better candidate that comes later gets the vote, a worse one nothing more", () => {
  const voter = new Voter().hear(A, candidacy(1)).hear(C, candidacy(1, { seniority: 1 }));
  deepEqual(voter.log.slice(1), ["node-c: clock 1 seniority 0"]);
  voter.hear(A, candidacy(1));
  equal(voter.log.length, 2);
});

Deno.test("a node that hears a master ends its campaign and waits out the lease", () => {
  const voter = new Voter().hear(A, candidacy(1));
  voter.take({ type: "MasterHeard", clock: 9, leaseMs: 400 });
  equal(voter.election.campaign, undefined);
  equal(voter.election.clock, 9);
  equal(electionWakeAt(voter.election), 400 + staggerMs(B));
  voter.wait(400 + STAGGER_MS);
  equal(voter.log.at(-1), "all: clock 10 seniority 0");
  equal(electionWakeAt(voter.election), voter.uptime + CAMPAIGN_REPEAT_MS);
});

Deno.test("a node that is no candidate votes, never campaigns, and never wins", () => {
  const voter = new Voter(NON_CANDIDATE_SENIORITY).wait(LATE);
  equal(electionWakeAt(voter.election), undefined);
  deepEqual(voter.log, []);
  voter.hear(A, candidacy(1));
  deepEqual(voter.log, ["node-a: clock 1 seniority -1"]);
  const among = new Voter(NON_CANDIDATE_SENIORITY);
  among.hear(A, candidacy(1, { seniority: NON_CANDIDATE_SENIORITY })).wait(CAMPAIGN_MS);
  deepEqual(among.log, []);
});

Deno.test("a forced candidate wins over all others, and stays forced", () => {
  const voter = new Voter(FORCED_SENIORITY).hear(C, candidacy(1, { seniority: 500 }));
  voter.wait(CAMPAIGN_MS);
  equal(voter.log.at(-1), "won by node-c");
  equal(voter.election.seniority, FORCED_SENIORITY);
});

Deno.test("candidates are compared by clock, seniority, head and id", () => {
  const head = { epoch: { clock: 1, nodeId: A }, idx: 4 };
  ok(compareCandidates([A, candidacy(2)], [B, candidacy(1, { seniority: 9 })]) > 0);
  ok(compareCandidates([A, candidacy(1, { seniority: 1 })], [B, candidacy(1, { head })]) > 0);
  ok(compareCandidates([A, candidacy(1, { head })], [B, candidacy(1)]) > 0);
  ok(compareCandidates([A, candidacy(1)], [B, candidacy(1)]) < 0);
  ok(compareCandidates([B, candidacy(1)], [A, candidacy(1)]) > 0);
});

Deno.test("nodes wait a part of the stagger that is their own", () => {
  ok([A, B, C].every((id) => staggerMs(id) >= 0 && staggerMs(id) < STAGGER_MS));
  equal(new Set([A, B, C].map(staggerMs)).size, 3);
});

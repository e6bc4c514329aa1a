/** Who leads: how a member finds, loses, becomes or gives way to a master. */
import { type ElectionInput, type ElectionOutput, LEASE_MS, stepElection } from "./election.ts";
import type { NodeId } from "./ids.ts";
import { compareEpochs, compareHeads } from "./lineage.ts";
import { headOf } from "./log_tail.ts";
import { follow, type Reigning, setFollowing } from "./member_follower.ts";
import { install } from "./member_log.ts";
import { beginReign, heartbeatOf, sayHeartbeat, seniorityOf } from "./member_master.ts";
import {
  broadcast,
  dropMessage,
  type Fetching,
  followingOf,
  reignOf,
  send,
  type Turn,
  update,
} from "./member_state.ts";
import type { MessageOf } from "./protocol.ts";
import { stateOfJson, stateToJson } from "./state.ts";
import type { Millis } from "./units.ts";

/** How long an elected node waits for a voter's newer state before it goes on without. */
export const HEAD_WAIT_MS = 600;

/** How often it asks for it. */
export const HEAD_RETRY_MS = 200;

/** A follower tells of another master this often. */
export const OBJECTION_MS = 500;

/** A master's heartbeat: nobody reigns by an epoch that another has begun. */
export function heartbeatHeard(turn: Turn, from: NodeId, message: MessageOf<"Heartbeat">): void {
  const { epoch, head, seniority } = message;
  if (epoch.nodeId !== from) return dropMessage(turn);
  masterHeard(turn, { master: from, epoch, head, seniority }, LEASE_MS);
}

/** Somebody hears a master. */
export function objectionHeard(turn: Turn, message: MessageOf<"Objection">): void {
  const { member } = turn;
  const { master, epoch } = message;
  const isOdd = master === member.nodeId || master !== epoch.nodeId;
  if (isOdd || member.role === "follower") return dropMessage(turn);
  masterHeard(turn, message, Math.min(message.leaseMs, LEASE_MS));
}

function masterHeard(turn: Turn, heard: Reigning, leaseMs: Millis): void {
  const { member } = turn;
  if (heard.epoch.clock > member.election.clock) {
    update(turn, { election: { ...member.election, clock: heard.epoch.clock } });
  }
  if (member.role === "master") return rivalHeard(turn, heard);
  if (member.role === "follower") return heardAsFollower(turn, heard);
  heardAsCandidate(turn, heard, leaseMs);
}

/**
 * Two masters: the one with more followers goes on, then the one of the later reign, then the one
 * in whose reign more has happened: a node that has just started to one that serves already.
 */
function rivalHeard(turn: Turn, heard: Reigning): void {
  const reign = reignOf(turn.member);
  const { uptime } = turn.context;
  const mine = seniorityOf(turn.member, uptime);
  const own = headOf(turn.member.state);
  const order = heard.seniority - mine || heard.epoch.clock - reign.epoch.clock ||
    heard.head.idx - own.idx || compareHeads(heard.head, own);
  const isHigher = compareEpochs(heard.epoch, reign.epoch) > 0;
  if (order > 0 && isHigher) return obey(turn, heard, LEASE_MS);
  // The winner begins an epoch above the other's, so that the highest epoch is the one that counts.
  if (order < 0 && isHigher) {
    beginReign(turn, mine);
    return sayHeartbeat(turn);
  }
  // The other has not heard of this reign, or not of the count that decides.
  send(turn, heard.master, heartbeatOf(turn.member, uptime));
}

function heardAsFollower(turn: Turn, heard: Reigning): void {
  const following = followingOf(turn.member);
  const order = compareEpochs(heard.epoch, following.epoch);
  const { uptime } = turn.context;
  if (heard.master === following.master) {
    if (order < 0) return dropMessage(turn);
    if (order > 0) return obey(turn, heard, LEASE_MS);
    const knownIdx = Math.max(following.knownIdx, heard.head.idx);
    setFollowing(turn, { heardAt: uptime, knownIdx, seniority: heard.seniority });
    return electionStep(turn, {
      type: "MasterHeard",
      clock: heard.epoch.clock,
      leaseMs: LEASE_MS,
    });
  }
  // Two masters: whichever has the lower epoch may not know of the other. They settle it.
  if (uptime < following.objectedAt + OBJECTION_MS) return;
  setFollowing(turn, { objectedAt: uptime });
  if (order > 0) {
    const { master, epoch, head, seniority } = heard;
    const leaseMs = LEASE_MS;
    send(turn, following.master, { type: "Objection", master, epoch, head, seniority, leaseMs });
  } else objectTo(turn, heard.master);
}

function heardAsCandidate(turn: Turn, heard: Reigning, leaseMs: Millis): void {
  const { epoch } = turn.member;
  if (!epoch || compareEpochs(heard.epoch, epoch) >= 0) return obey(turn, heard, leaseMs);
  // It reigns by an epoch that this node must not follow any more: it has to begin a new one.
  const context = electionContext(turn);
  const { clock, seniority } = turn.member.election;
  send(turn, heard.master, { type: "Candidacy", clock: clock + 1, seniority, ...context.own });
}

function obey(turn: Turn, heard: Reigning, leaseMs: Millis): void {
  const { master, epoch, head, seniority } = heard;
  follow(turn, { master, epoch, head, seniority });
  setFollowing(turn, { heardAt: turn.context.uptime - LEASE_MS + leaseMs });
  electionStep(turn, { type: "MasterHeard", clock: heard.epoch.clock, leaseMs });
}

/** A node without a master campaigns. Whoever hears a master objects, or is it. */
export function candidacyHeard(turn: Turn, from: NodeId, candidacy: MessageOf<"Candidacy">): void {
  const { member } = turn;
  if (member.role === "master") return candidacyAsMaster(turn, from, candidacy);
  if (member.role === "follower" && from !== member.master) return objectTo(turn, from);
  if (member.role === "follower") loseMaster(turn);
  electionStep(turn, { type: "Candidacy", from, candidacy });
}

/**
 * A master that nobody follows gives way to a newer head: a fresh node to one that returns. Any
 * other stays, and begins an epoch that the candidate may follow.
 */
function candidacyAsMaster(turn: Turn, from: NodeId, candidacy: MessageOf<"Candidacy">): void {
  const reign = reignOf(turn.member);
  const isAlone = seniorityOf(turn.member, turn.context.uptime) <= 1;
  const isNewer = compareHeads(candidacy.head, headOf(turn.member.state)) > 0;
  if (isAlone && isNewer && candidacy.seniority >= 0) {
    loseMaster(turn);
    return electionStep(turn, { type: "Candidacy", from, candidacy });
  }
  const { epoch } = candidacy;
  const mustRise = epoch !== undefined && compareEpochs(epoch, reign.epoch) > 0;
  const clock = Math.max(turn.member.election.clock, epoch?.clock ?? 0);
  update(turn, { election: { ...turn.member.election, clock } });
  if (!mustRise) {
    return send(turn, from, heartbeatOf(turn.member, turn.context.uptime));
  }
  beginReign(turn, seniorityOf(turn.member, turn.context.uptime));
  sayHeartbeat(turn);
}

/** "I hear a master." */
function objectTo(turn: Turn, to: NodeId): void {
  const following = followingOf(turn.member);
  const { master, epoch, knownIdx, heardAt, seniority } = following;
  const leaseMs = Math.max(0, heardAt + LEASE_MS - turn.context.uptime);
  const head = { epoch, idx: knownIdx };
  send(turn, to, { type: "Objection", master, epoch, head, seniority, leaseMs });
}

/** Nobody leads, as far as this node hears. */
export function loseMaster(turn: Turn): void {
  update(turn, {
    role: "candidate",
    master: undefined,
    following: undefined,
    reign: undefined,
    fetching: undefined,
  });
}

/** A peer is new: it is told who leads, or how this node stands. */
export function peerConnected(turn: Turn, peer: NodeId): void {
  const { member } = turn;
  if (member.reign) send(turn, peer, heartbeatOf(member, turn.context.uptime));
  if (member.role === "candidate") {
    electionStep(turn, { type: "Hasten", patienceMs: LEASE_MS / 2 });
  }
}

/** The connection to the master is gone: it is waited for only briefly. */
export function peerDisconnected(turn: Turn, peer: NodeId): void {
  const { following } = turn.member;
  if (following?.master !== peer) return;
  const patienceMs = LEASE_MS / 4;
  const heardAt = Math.min(following.heardAt, turn.context.uptime - LEASE_MS + patienceMs);
  setFollowing(turn, { heardAt });
  electionStep(turn, { type: "Hasten", patienceMs });
}

/** What time alone brings about: a lease that ends, a round that begins, repeats or ends. */
export function settleElection(turn: Turn): void {
  const { uptime } = turn.context;
  const { following } = turn.member;
  if (following && uptime >= following.heardAt + LEASE_MS) loseMaster(turn);
  if (turn.member.role !== "candidate") return;
  const { fetching } = turn.member;
  if (!fetching) return electionStep(turn, { type: "Tick" });
  if (uptime >= fetching.until) beginReign(turn, fetching.voters);
  else if (uptime >= fetching.askAt) askForHead(turn, fetching);
}

function electionContext(turn: Turn) {
  const { state, epoch } = turn.member;
  const head = headOf(state);
  const own = { head, ...(epoch ? { epoch } : {}) };
  return { uptime: turn.context.uptime, head, epoch, own };
}

function electionStep(turn: Turn, input: ElectionInput): void {
  const { election, outputs } = stepElection(turn.member.election, input, electionContext(turn));
  update(turn, { election });
  for (const output of outputs) perform(turn, output);
}

function perform(turn: Turn, output: ElectionOutput): void {
  switch (output.type) {
    case "Broadcast":
      return broadcast(turn, { type: "Candidacy", ...output.candidacy });
    case "Send":
      return send(turn, output.to, { type: "Candidacy", ...output.candidacy });
    case "Won":
      return won(turn, output);
    case "Lost":
      return;
    // deno-coverage-ignore-start
    default:
      return output satisfies never;
      // deno-coverage-ignore-stop
  }
}

/** The elected node goes on from the newest head that any voter has. */
function won(turn: Turn, { voters }: Extract<ElectionOutput, { type: "Won" }>): void {
  const { uptime } = turn.context;
  const [first] = [...voters].sort(([, a], [, b]) => compareHeads(b.head, a.head));
  const count = voters.size + 1;
  if (!first || compareHeads(first[1].head, headOf(turn.member.state)) <= 0) {
    return beginReign(turn, count);
  }
  const fetching: Fetching = {
    from: first[0],
    clock: turn.member.election.clock + 1,
    askAt: uptime,
    until: uptime + HEAD_WAIT_MS,
    voters: count,
  };
  askForHead(turn, fetching);
}

function askForHead(turn: Turn, fetching: Fetching): void {
  const { from, clock } = fetching;
  update(turn, { fetching: { ...fetching, askAt: turn.context.uptime + HEAD_RETRY_MS } });
  send(turn, from, { type: "HeadRequest", clock });
}

/** An elected node asks for this node's state; one that has a master has none to give. */
export function headRequested(turn: Turn, from: NodeId, { clock }: MessageOf<"HeadRequest">) {
  const { role, state } = turn.member;
  if (role !== "candidate") return dropMessage(turn);
  send(turn, from, { type: "HeadState", clock, state: stateToJson(state) });
}

/** A voter's state, newer than this node's own. */
export function headStateHeard(turn: Turn, from: NodeId, message: MessageOf<"HeadState">): void {
  const { fetching, state } = turn.member;
  if (!fetching || fetching.from !== from || fetching.clock !== message.clock) {
    return dropMessage(turn);
  }
  const newer = stateOfJson(message.state);
  const { epoch } = headOf(newer);
  if (epoch && compareHeads(headOf(newer), headOf(state)) > 0) install(turn, newer, epoch);
  beginReign(turn, fetching.voters);
}

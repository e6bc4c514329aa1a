/** What a member does while it is the master. */
import { admit } from "./admission.ts";
import type { Command, CommandReply } from "./commands.ts";
import type { Event } from "./events.ts";
import { FORCED_SENIORITY, LEASE_MS } from "./election.ts";
import { dueReports } from "./facts.ts";
import { CommandId, InstanceId, type NodeId } from "./ids.ts";
import { compareEpochs, type Epoch, type Head } from "./lineage.ts";
import { eventsAfter, headOf } from "./log_tail.ts";
import { accepted, decide, rejected } from "./master.ts";
import { answeredCards, askForCards } from "./member_cards.ts";
import { append, dueBranch, newerEpoch } from "./member_log.ts";
import {
  broadcast,
  dropMessage,
  type Follower,
  freshId,
  type Member,
  type Reign,
  reignOf,
  send,
  type Turn,
  update,
} from "./member_state.ts";
import { tellFollower } from "./member_telemetry.ts";
import { ACKNOWLEDGERS_MAX, EVENTS_PAGE_MAX, type MessageOf, NODES_MAX } from "./protocol.ts";
import { NO_GATHERS } from "./pending_gathers.ts";
import { NO_TRIES } from "./placement_turns.ts";
import { reconcileAll } from "./reconcile.ts";
import { drop, put, stateToJson } from "./state.ts";
import type { Millis } from "./units.ts";

/** How often a master says that it reigns: three times in a lease. */
export const HEARTBEAT_MS = 330;

/** How often the reconcilers run when nothing changes. */
export const RECONCILE_MS = 1_000;

/** The reconcilers run at most this often: a burst of changes costs one run. */
export const RECONCILE_GAP_MS = 20;

/** A follower that was silent for so long does not count. */
export const FOLLOWER_LIVE_MS = 2_500;

/** Answers that a master remembers. */
export const REPLIES_MAX = 4_096;

/** How many nodes a master has behind it; a forced one has more than all. */
export function seniorityOf(member: Member, uptime: Millis): number {
  const { election } = member;
  const reign = reignOf(member);
  const { since, awakeSince, voters } = reign;
  const followers = liveFollowers(reign, uptime).filter(([, { heardAt }]) => heardAt >= awakeSince);
  const isNew = since >= awakeSince && uptime < since + FOLLOWER_LIVE_MS;
  const current = Math.max(followers.length + 1, isNew ? voters : 0);
  return election.seniority >= FORCED_SENIORITY ? election.seniority : current;
}

/**
 * A master that has said nothing for a lease, since it was stopped, has no followers that it knows
 * of: they may have elected another meanwhile, who is to go on. What they said before waits to be
 * read, so that they count again a heartbeat later.
 */
export function noticePause(turn: Turn): void {
  const { member: { reign }, context: { uptime } } = turn;
  if (!reign || uptime < reign.heartbeatAt - HEARTBEAT_MS + LEASE_MS) return;
  setReign(turn, { awakeSince: uptime + HEARTBEAT_MS });
}

/** Followers that were heard of lately. */
export function liveFollowers({ followers }: Reign, uptime: Millis): [NodeId, Follower][] {
  return [...followers].filter(([, follower]) => isLive(follower, uptime));
}

function isLive(follower: Follower | undefined, uptime: Millis): boolean {
  return follower !== undefined && uptime < follower.heardAt + FOLLOWER_LIVE_MS;
}

/** Of which nodes the master has heard lately; of itself it always has. */
function isHeardBy({ member, context: { uptime } }: Turn): (nodeId: NodeId) => boolean {
  const { followers } = reignOf(member);
  return (nodeId) => nodeId === member.nodeId || isLive(followers.get(nodeId), uptime);
}

/** One that is back is told all latest values, like one that is new. */
function forgetSilent(turn: Turn, uptime: Millis): void {
  const reign = reignOf(turn.member);
  const live = liveFollowers(reign, uptime);
  if (live.length < reign.followers.size) setReign(turn, { followers: new Map(live) });
}

/** What a master tells of its reign. */
export function heartbeatOf(member: Member, uptime: Millis): MessageOf<"Heartbeat"> {
  const seniority = seniorityOf(member, uptime);
  const { epoch } = reignOf(member);
  return { type: "Heartbeat", epoch, head: headOf(member.state), seniority };
}

/** Begins an epoch above all that were ever heard of. */
export function beginReign(turn: Turn, voters: number): void {
  const { member, context: { uptime } } = turn;
  const { nodeId, election, state } = member;
  const newest = newerEpoch(member.epoch, headOf(state).epoch);
  const clock = Math.max(election.clock, newest?.clock ?? 0) + 1;
  const epoch: Epoch = { clock, nodeId };
  const reign = {
    epoch,
    since: uptime,
    voters,
    followers: member.reign?.followers ?? new Map(),
    replies: new Map(),
    heartbeatAt: uptime,
    awakeSince: member.reign?.awakeSince ?? uptime,
    reconciledAt: uptime - RECONCILE_GAP_MS,
    tries: NO_TRIES,
    reconcileAt: uptime,
    gathers: NO_GATHERS,
  };
  // Nobody is late with a new master.
  const known = new Set([...state.nodes.keys(), ...member.telemetry.lastSeen.keys(), nodeId]);
  const lastSeen = new Map([...known].map((id) => [id, uptime] as const));
  update(turn, {
    role: "master",
    epoch,
    master: nodeId,
    following: undefined,
    fetching: undefined,
    reign,
    election: { ...election, clock, campaign: undefined },
    telemetry: { ...member.telemetry, lastSeen },
  });
  turn.said.push({ type: "Elected", epoch, isMaster: true });
  append(turn, epoch, { type: "EpochStarted" });
  mergeOwnBranch(turn, epoch);
}

/** A follower tells how far it is. */
export function followingHeard(turn: Turn, from: NodeId, message: MessageOf<"Following">): void {
  const { reign } = turn.member;
  const { epoch, idx, isDeaf } = message;
  if (!reign || compareEpochs(epoch, reign.epoch) !== 0) return dropMessage(turn);
  const { uptime } = turn.context;
  if (isDeaf) send(turn, from, heartbeatOf(turn.member, uptime));
  const before = reign.followers.get(from);
  if (!before && reign.followers.size >= NODES_MAX) return dropMessage(turn);
  if (!before) tellFollower(turn, from);
  const newest = Math.max(before?.idx ?? -1, idx);
  setReign(turn, { followers: put(reign.followers, from, { idx: newest, heardAt: uptime }) });
}

/** Answers what follows a head: a page of the log, or all of the state. */
export function syncRequested(turn: Turn, from: NodeId, request: MessageOf<"SyncRequest">) {
  const { reign, tail, state } = turn.member;
  if (!reign || compareEpochs(request.epoch, reign.epoch) !== 0) return dropMessage(turn);
  const { epoch } = reign;
  const events = eventsAfter(tail, request.head, EVENTS_PAGE_MAX);
  if (!events) send(turn, from, { type: "Snapshot", epoch, state: stateToJson(state) });
  else if (events.length > 0) {
    const previous: Head = request.head;
    send(turn, from, { type: "Events", epoch, previous, events: [...events], acknowledgers: [] });
  }
}

/** Facts about a node, from itself. */
export function reportHeard(turn: Turn, from: NodeId, report: MessageOf<"Report">): void {
  const { reign } = turn.member;
  if (!reign || compareEpochs(report.epoch, reign.epoch) !== 0) return dropMessage(turn);
  admitAll(turn, reign.epoch, from, report.events);
}

function admitAll(turn: Turn, epoch: Epoch, from: NodeId, events: readonly Event[]): void {
  for (const event of events) {
    for (const one of admit(turn.member.state, event, from)) {
      append(turn, epoch, dated(one, turn.context.now));
    }
  }
}

/** The master's date is that of all: no instance is well for a minute by a clock that is wrong. */
function dated(event: Event, now: Millis): Event {
  return event.type === "RunnerStatusUpdated" ? { ...event, at: now } : event;
}

/** Executes a command, once. */
export function execute(turn: Turn, command: Command): CommandReply {
  const { epoch, replies } = reignOf(turn.member);
  const known = replies.get(command.commandId);
  if (known) return known;
  const reply = decided(turn, epoch, command);
  const oldest = [...replies.keys()].slice(0, Math.max(0, replies.size - REPLIES_MAX + 1));
  setReign(turn, { replies: put(drop(replies, ...oldest), command.commandId, reply) });
  return reply;
}

function decided(turn: Turn, epoch: Epoch, command: Command): CommandReply {
  const { telemetry, state } = turn.member;
  try {
    const isHeard = isHeardBy(turn);
    const decision = decide(state, command, { telemetry, now: turn.context.now, isHeard });
    for (const event of decision.events) append(turn, epoch, event);
    return accepted(command, turn.member.state.lastEventAppliedIdx, decision);
  } catch (reason) {
    return rejected(command, reason);
  }
}

/** What a master does by itself: its own facts, its own branch, what the reconcilers decide. */
export function settleMaster(turn: Turn, before: Member): void {
  const { reign } = turn.member;
  if (!reign) return;
  const { uptime } = turn.context;
  if (uptime >= reign.reconcileAt || before.facts !== turn.member.facts) {
    admitOwn(turn, reign);
  }
  if (before.state !== turn.member.state) {
    const soon = Math.min(reign.reconcileAt, reign.reconciledAt + RECONCILE_GAP_MS);
    setReign(turn, { reconcileAt: soon });
  }
  if (uptime >= reignOf(turn.member).reconcileAt) {
    forgetSilent(turn, uptime);
    // What follows from its own departure is for the next master to decide.
    if (!turn.member.isLeaving) {
      askForCards(turn);
      reconcileNow(turn, reign.epoch);
    }
    setReign(turn, { reconciledAt: uptime, reconcileAt: uptime + RECONCILE_MS });
  }
  if (uptime >= reign.heartbeatAt) sayHeartbeat(turn);
}

/** A master that leaves nobody behind does not say that it goes: it comes back to what it had. */
function admitOwn(turn: Turn, reign: Reign): void {
  const { nodeId, facts, state, isLeaving } = turn.member;
  if (isLeaving && liveFollowers(reign, turn.context.uptime).length === 0) return;
  admitAll(turn, reign.epoch, nodeId, dueReports(state, nodeId, facts));
}

/** An elected node may have been of a side that gave way, too. */
function mergeOwnBranch(turn: Turn, epoch: Epoch): void {
  const branch = dueBranch(turn);
  if (!branch) return;
  const commandId = CommandId.parse(freshId(turn));
  decided(turn, epoch, { type: "MergeLineage", commandId, ...branch });
  dueBranch(turn);
}

/** Says now that this node reigns. */
export function sayHeartbeat(turn: Turn): void {
  const { uptime } = turn.context;
  broadcast(turn, heartbeatOf(turn.member, uptime));
  setReign(turn, { heartbeatAt: uptime + HEARTBEAT_MS });
}

/** Until nothing is left to do; each decision is applied before the next is made. */
function reconcileNow(turn: Turn, epoch: Epoch): void {
  const { now, uptime } = turn.context;
  const { state, telemetry, nodeId } = turn.member;
  const lastSeen = put(telemetry.lastSeen, nodeId, uptime);
  const context = {
    telemetry: { ...telemetry, lastSeen },
    now,
    uptime,
    cards: answeredCards(turn),
    freshId: InstanceId.parse(freshId(turn)),
    tries: reignOf(turn.member).tries,
  };
  const tries = reconcileAll(state, context, (events) => {
    for (const event of events) append(turn, epoch, event);
    return turn.member.state;
  });
  setReign(turn, { tries });
}

/** What the followers are told of this step's events; a few of them acknowledge them at once. */
export function eventsToPublish(turn: Turn): MessageOf<"Events">[] {
  const { reign } = turn.member;
  if (!reign || turn.fresh.length === 0) return [];
  const { epoch } = reign;
  const live = liveFollowers(reign, turn.context.uptime);
  const acknowledgers = live.slice(0, ACKNOWLEDGERS_MAX).map(([id]) => id);
  const messages: MessageOf<"Events">[] = [];
  for (let at = 0; at < turn.fresh.length; at += EVENTS_PAGE_MAX) {
    const last = turn.fresh[at - 1];
    messages.push({
      type: "Events",
      epoch,
      previous: last ? { epoch: last.epoch, idx: last.idx } : turn.previous,
      events: turn.fresh.slice(at, at + EVENTS_PAGE_MAX),
      acknowledgers,
    });
  }
  return messages;
}

function setReign(turn: Turn, fields: Partial<Reign>): void {
  update(turn, { reign: { ...reignOf(turn.member), ...fields } });
}

/** What a member does while it follows a master: it keeps up, acknowledges, and reports. */
import { LEASE_MS, staggerMs } from "./election.ts";
import { chained, drain, EMPTY_BUFFER, ingest } from "./event_buffer.ts";
import { dueReports } from "./facts.ts";
import { CommandId, type NodeId } from "./ids.ts";
import { compareEpochs, type Epoch, type Head } from "./lineage.ts";
import { headOf } from "./log_tail.ts";
import { applyIndexed, dueBranch, install, isOfEpoch, isSynced } from "./member_log.ts";
import {
  dropMessage,
  type Following,
  followingOf,
  freshId,
  type Member,
  send,
  type Turn,
  update,
} from "./member_state.ts";
import { type MessageOf, REPORT_EVENTS_MAX } from "./protocol.ts";
import { stateOfJson } from "./state.ts";
import type { Millis } from "./units.ts";

/** The first wait before a request for events is repeated; each doubles the one before. */
export const SYNC_RETRY_MS = 250;

/** The longest wait before a request for events is repeated. */
export const SYNC_RETRY_MS_MAX = 2_000;

/** How often a follower tells its master that it is there. */
export const FOLLOWING_MS = 1_000;

/** A follower that has missed the heartbeats of so long asks for one of its own. */
export const DEAF_MS = 500;

/** How often it asks, until its lease ends. */
export const DEAF_RETRY_MS = 250;

/** How long a report may take into the log before it is sent again. */
export const REPORT_RETRY_MS = 1_000;

/** What the state still lacks is looked for this long after a change of the state. */
export const REPORT_DELAY_MS = 100;

/** How long a node waits for the former master of its side to bring the branch that all have. */
export const MERGE_PATIENCE_MS = 1_000;

/** How often a branch is brought until it is merged. */
export const MERGE_RETRY_MS = 2_000;

/** A master as it tells of itself, or as others tell of it. */
export interface Reigning {
  readonly master: NodeId;
  readonly epoch: Epoch;
  readonly head: Head;
  readonly seniority: number;
}

/** Follows a master from here on. */
export function follow(turn: Turn, { master, epoch, head, seniority }: Reigning): void {
  const { uptime } = turn.context;
  const { nodeId, role } = turn.member;
  // All of a side have the same branch: its master speaks for them, if it can.
  const patienceMs = role === "master" ? 0 : MERGE_PATIENCE_MS;
  update(turn, {
    role: "follower",
    epoch,
    master,
    reign: undefined,
    fetching: undefined,
    following: {
      master,
      epoch,
      heardAt: uptime,
      seniority,
      knownIdx: head.idx,
      buffer: EMPTY_BUFFER,
      syncAt: uptime,
      syncAttempts: 0,
      saidAt: uptime - FOLLOWING_MS,
      objectedAt: uptime - FOLLOWING_MS,
      reportAt: uptime,
      mergeAt: uptime + patienceMs + staggerMs(nodeId),
    },
  });
  turn.said.push({ type: "Elected", epoch, isMaster: false });
}

/** Changes what the member knows of its master. */
export function setFollowing(turn: Turn, fields: Partial<Following>): void {
  update(turn, { following: { ...followingOf(turn.member), ...fields } });
}

/** A page of the log, from the master that this node follows. */
export function eventsHeard(turn: Turn, from: NodeId, message: MessageOf<"Events">): void {
  const { following } = turn.member;
  if (!following || !isFrom(following, from, message.epoch) || !isChain(message)) {
    return dropMessage(turn);
  }
  let { buffer } = following;
  let { knownIdx } = following;
  const next = turn.member.state.lastEventAppliedIdx + 1;
  for (const event of chained(message.previous, message.events)) {
    const ingested = ingest(buffer, event, next);
    buffer = ingested.buffer;
    if (ingested.outcome === "conflict") dropMessage(turn);
    knownIdx = Math.max(knownIdx, event.idx);
  }
  setFollowing(turn, { buffer, knownIdx });
  release(turn);
  if (message.acknowledgers.includes(turn.member.nodeId)) sayFollowing(turn);
}

/** Whether a page has no gap, and goes from older epochs to newer ones, its master's at most. */
function isChain({ previous, events, epoch }: MessageOf<"Events">): boolean {
  return events.every((event, at) => {
    const before = events[at - 1] ?? previous;
    const isLater = before.epoch === undefined || compareEpochs(before.epoch, event.epoch) <= 0;
    return event.idx === before.idx + 1 && isLater && compareEpochs(event.epoch, epoch) <= 0;
  });
}

/** Applies what has its turn. */
function release(turn: Turn): void {
  const held = followingOf(turn.member).buffer;
  const { buffer, events } = drain(held, headOf(turn.member.state));
  for (const event of events) applyIndexed(turn, event);
  const { uptime } = turn.context;
  const isMerged = events.some(({ event }) => event.type === "LineageMerged");
  setFollowing(turn, {
    buffer,
    ...(events.length === 0 ? {} : { syncAttempts: 0, syncAt: uptime }),
    ...(isMerged ? { mergeAt: uptime } : {}),
  });
  const { master } = followingOf(turn.member);
  const isLeft = events.some(({ event }) => event.type === "NodeLeft" && event.nodeId === master);
  if (isLeft) masterLeaves(turn);
}

/** It is waited for no longer, once it has heard that others know: then it may stop. */
function masterLeaves(turn: Turn): void {
  const { uptime } = turn.context;
  const { nodeId, election } = turn.member;
  sayFollowing(turn);
  setFollowing(turn, { heardAt: uptime - LEASE_MS });
  update(turn, { election: { ...election, quietUntil: uptime + staggerMs(nodeId) } });
}

/** All of the master's state: this node's own was of another history, or far behind. */
export function snapshotHeard(turn: Turn, from: NodeId, message: MessageOf<"Snapshot">): void {
  const { following, state } = turn.member;
  const { lastEventAppliedIdx } = message.state;
  const isOld = isSynced(turn.member) && lastEventAppliedIdx <= state.lastEventAppliedIdx;
  if (!following || !isFrom(following, from, message.epoch) || isOld) return dropMessage(turn);
  const theirs = stateOfJson(message.state);
  if (!isOfEpoch(theirs, message.epoch)) return dropMessage(turn);
  install(turn, theirs, message.epoch);
  const left = [...following.buffer].filter(([idx]) => idx > lastEventAppliedIdx);
  setFollowing(turn, {
    buffer: new Map(left),
    knownIdx: Math.max(following.knownIdx, lastEventAppliedIdx),
    syncAttempts: 0,
    syncAt: turn.context.uptime,
  });
  release(turn);
}

function isFrom(following: Following, from: NodeId, epoch: Epoch): boolean {
  return from === following.master && compareEpochs(epoch, following.epoch) === 0;
}

/** What a follower does by itself: asks for what it lacks, acknowledges, reports, brings a branch. */
export function settleFollower(turn: Turn, before: Member): void {
  const { following } = turn.member;
  if (!following) return;
  const { uptime } = turn.context;
  if (isBehind(turn.member) && uptime >= following.syncAt) askForEvents(turn);
  const isDeaf = uptime >= deafAt(following);
  if (isDeaf || uptime >= following.saidAt + FOLLOWING_MS) sayFollowing(turn, isDeaf);
  if (!isSynced(turn.member)) return;
  if (before.facts !== turn.member.facts) setFollowing(turn, { reportAt: uptime });
  else if (before.state !== turn.member.state) {
    const reportAt = Math.min(following.reportAt, uptime + REPORT_DELAY_MS);
    setFollowing(turn, { reportAt });
  }
  report(turn);
  bringBranch(turn);
}

/** Whether the master has events that this node has not. */
function isBehind(member: Member): boolean {
  const { knownIdx } = followingOf(member);
  return !isSynced(member) || member.state.lastEventAppliedIdx < knownIdx;
}

/** Asked at once, and again with growing patience until the known head is reached. */
function askForEvents(turn: Turn): void {
  const { master, epoch, syncAttempts } = followingOf(turn.member);
  send(turn, master, { type: "SyncRequest", epoch, head: headOf(turn.member.state) });
  const wait = Math.min(SYNC_RETRY_MS * 2 ** syncAttempts, SYNC_RETRY_MS_MAX);
  setFollowing(turn, { syncAt: turn.context.uptime + wait, syncAttempts: syncAttempts + 1 });
}

/** When it is time to ask for a heartbeat: topics are lost where direct messages still get through. */
function deafAt({ heardAt, saidAt }: Following): Millis {
  return Math.max(heardAt + DEAF_MS, saidAt + DEAF_RETRY_MS);
}

/** Tells the master how far this node's disk is. */
function sayFollowing(turn: Turn, isDeaf = false): void {
  const { master, epoch } = followingOf(turn.member);
  const idx = isSynced(turn.member) ? turn.member.state.lastEventAppliedIdx : -1;
  send(turn, master, { type: "Following", epoch, idx, ...(isDeaf ? { isDeaf } : {}) });
  setFollowing(turn, { saidAt: turn.context.uptime });
}

/** Sends what the log lacks; again only when it has had time to get there. */
function report(turn: Turn): void {
  const { master, epoch, reportAt } = followingOf(turn.member);
  const { uptime } = turn.context;
  if (uptime < reportAt) return;
  const { nodeId, state, facts } = turn.member;
  const events = dueReports(state, nodeId, facts).slice(0, REPORT_EVENTS_MAX);
  setFollowing(turn, { reportAt: uptime + REPORT_RETRY_MS });
  if (events.length === 0) return;
  send(turn, master, { type: "Report", epoch, events });
}

function bringBranch(turn: Turn): void {
  const { master, epoch, mergeAt } = followingOf(turn.member);
  const { uptime } = turn.context;
  if (uptime < mergeAt) return;
  const branch = dueBranch(turn);
  if (!branch) return;
  const command = {
    type: "MergeLineage" as const,
    commandId: CommandId.parse(freshId(turn)),
    ...branch,
  };
  send(turn, master, { type: "CommandRequest", epoch, command });
  setFollowing(turn, { mergeAt: uptime + MERGE_RETRY_MS });
}

/** When a follower has something to do if nobody speaks. */
export function followerWakeAt(member: Member): readonly Millis[] {
  const { branch } = member;
  const following = followingOf(member);
  return [
    Math.min(following.saidAt + FOLLOWING_MS, deafAt(following)),
    ...(isBehind(member) ? [following.syncAt] : []),
    ...(isSynced(member) ? [following.reportAt] : []),
    ...(isSynced(member) && branch ? [following.mergeAt] : []),
  ];
}

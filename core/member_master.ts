/** What a member does while it is the master. */
import { admit } from "./admission.ts";
import type { Command, CommandReply } from "./commands.ts";
import type { Event } from "./events.ts";
import { dueReports } from "./facts.ts";
import { CommandId, InstanceId, type ModelId, type NodeId } from "./ids.ts";
import { compareEpochs, type Epoch, type Head } from "./lineage.ts";
import { eventsAfter, headOf } from "./log_tail.ts";
import { accepted, decide, rejected } from "./master.ts";
import { append, dueBranch } from "./member_log.ts";
import {
  broadcast,
  type CardQuestion,
  dropMessage,
  freshId,
  type Input,
  type Member,
  type Reign,
  send,
  type Turn,
  update,
} from "./member_state.ts";
import { ACKNOWLEDGERS_MAX, EVENTS_PAGE_MAX, type MessageOf } from "./protocol.ts";
import { type CardLookup, reconcile } from "./reconcile.ts";
import { drop, put, stateToJson } from "./state.ts";
import type { Millis } from "./units.ts";

/** How often a master says that it reigns. */
export const HEARTBEAT_MS = 250;

/** How often the reconcilers run when nothing changes. */
export const RECONCILE_MS = 1_000;

/** Rounds of the reconcilers in one step; the rest follows in the next. */
export const RECONCILE_ROUNDS_MAX = 256;

/** A follower that was silent for so long does not count. */
export const FOLLOWER_LIVE_MS = 2_500;

/** Answers that a master remembers. */
export const REPLIES_MAX = 4_096;

/** How long the shell may look for a model's card. */
export const CARD_LOOKUP_MS = 10_000;

/** When nobody could tell, the question is asked again after so long. */
export const CARD_RETRY_MS = 60_000;

/** The reign of the member. */
export function reignOf({ reign, epoch }: Member): (Reign & { readonly epoch: Epoch }) | undefined {
  return reign && epoch ? { ...reign, epoch } : undefined;
}

/** How many nodes a master has behind it; a forced one has more than all. */
export function seniorityOf({ election, reign }: Member, uptime: Millis): number {
  const followers = reign ? liveFollowers(reign, uptime).length + 1 : 0;
  const isNew = reign !== undefined && uptime < reign.since + FOLLOWER_LIVE_MS;
  const current = Math.max(followers, isNew ? reign.voters : 0);
  return election.seniority > current && isForced(election.seniority)
    ? election.seniority
    : current;
}

function isForced(seniority: number): boolean {
  return seniority >= 1_000_000;
}

/** Followers that were heard of lately. */
export function liveFollowers({ followers }: Reign, uptime: Millis): NodeId[] {
  return [...followers].filter(([, { heardAt }]) => uptime < heardAt + FOLLOWER_LIVE_MS)
    .map(([id]) => id);
}

/** What a master tells of its reign. */
export function heartbeatOf(member: Member, epoch: Epoch, uptime: Millis): MessageOf<"Heartbeat"> {
  const seniority = seniorityOf(member, uptime);
  return { type: "Heartbeat", epoch, head: headOf(member.state), seniority };
}

/** Begins an epoch above all that were ever heard of. */
export function beginReign(turn: Turn, voters: number): void {
  const { member, context: { uptime } } = turn;
  const { nodeId, election, state } = member;
  const clock = Math.max(election.clock, member.epoch?.clock ?? 0) + 1;
  const epoch: Epoch = { clock, nodeId };
  const reign = {
    since: uptime,
    voters,
    followers: member.reign?.followers ?? new Map(),
    replies: new Map(),
    heartbeatAt: uptime,
    reconcileAt: uptime,
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
}

/** A follower tells how far it is. */
export function followingHeard(turn: Turn, from: NodeId, { epoch, idx }: MessageOf<"Following">) {
  const reign = reignOf(turn.member);
  if (!reign || compareEpochs(epoch, reign.epoch) !== 0) return dropMessage(turn);
  const { uptime } = turn.context;
  const before = reign.followers.get(from);
  const newest = Math.max(before?.idx ?? -1, idx);
  setReign(turn, { followers: put(reign.followers, from, { idx: newest, heardAt: uptime }) });
}

/** Answers what follows a head: a page of the log, or all of the state. */
export function syncRequested(turn: Turn, from: NodeId, request: MessageOf<"SyncRequest">) {
  const reign = reignOf(turn.member);
  const { member: { tail, state } } = turn;
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
  const reign = reignOf(turn.member);
  if (!reign || compareEpochs(report.epoch, reign.epoch) !== 0) return dropMessage(turn);
  admitAll(turn, reign.epoch, from, report.events);
}

function admitAll(turn: Turn, epoch: Epoch, from: NodeId, events: readonly Event[]): void {
  for (const event of events) {
    for (const one of admit(turn.member.state, event, from)) append(turn, epoch, one);
  }
}

/** Executes a command, once. */
export function execute(turn: Turn, { epoch }: { epoch: Epoch }, command: Command): CommandReply {
  const known = turn.member.reign?.replies.get(command.commandId);
  if (known) return known;
  const reply = decided(turn, epoch, command);
  const replies = put(turn.member.reign?.replies ?? new Map(), command.commandId, reply);
  const [oldest] = replies.keys();
  const isFull = replies.size > REPLIES_MAX && oldest !== undefined;
  setReign(turn, { replies: isFull ? drop(replies, oldest) : replies });
  return reply;
}

function decided(turn: Turn, epoch: Epoch, command: Command): CommandReply {
  const { telemetry, state } = turn.member;
  try {
    const decision = decide(state, command, { telemetry, now: turn.context.now });
    for (const event of decision.events) append(turn, epoch, event);
    return accepted(command, turn.member.state.lastEventAppliedIdx, decision);
  } catch (reason) {
    return rejected(command, reason);
  }
}

/** What a master does by itself: its own facts, its own branch, what the reconcilers decide. */
export function settleMaster(turn: Turn, before: Member): void {
  const reign = reignOf(turn.member);
  if (!reign) return;
  const { context: { uptime } } = turn;
  const isNew = before.reign === undefined || before.facts !== turn.member.facts ||
    before.state !== turn.member.state;
  if (isNew || uptime >= reign.reconcileAt) {
    const { nodeId, facts } = turn.member;
    admitAll(turn, reign.epoch, nodeId, dueReports(turn.member.state, nodeId, facts));
    const branch = dueBranch(turn);
    if (branch) {
      const commandId = CommandId.parse(freshId(turn));
      decided(turn, reign.epoch, { type: "MergeLineage", commandId, ...branch });
      dueBranch(turn);
    }
    askForCards(turn);
    reconcileAll(turn, reign.epoch);
    setReign(turn, { reconcileAt: uptime + RECONCILE_MS });
  }
  if (uptime >= reign.heartbeatAt) sayHeartbeat(turn);
}

/** Says now that this node reigns. */
export function sayHeartbeat(turn: Turn): void {
  const reign = reignOf(turn.member);
  if (!reign) return;
  const { uptime } = turn.context;
  broadcast(turn, heartbeatOf(turn.member, reign.epoch, uptime));
  setReign(turn, { heartbeatAt: uptime + HEARTBEAT_MS });
}

/** Until nothing is left to do; each decision is applied before the next is made. */
function reconcileAll(turn: Turn, epoch: Epoch): void {
  const { now, uptime } = turn.context;
  for (let round = 0; round < RECONCILE_ROUNDS_MAX; round++) {
    const { state, telemetry, nodeId, cards } = turn.member;
    const lastSeen = put(telemetry.lastSeen, nodeId, uptime);
    const events = reconcile(state, {
      telemetry: { ...telemetry, lastSeen },
      now,
      uptime,
      cards: answeredCards(cards),
      freshId: InstanceId.parse(freshId(turn)),
    });
    if (events.length === 0) return;
    for (const event of events) append(turn, epoch, event);
  }
}

function answeredCards(cards: Member["cards"]): ReadonlyMap<ModelId, CardLookup> {
  return new Map([...cards].flatMap(([id, { lookup }]) => (lookup ? [[id, lookup]] : [])));
}

/** Asks the shell for the cards of models that wishes name, each once a while. */
function askForCards(turn: Turn): void {
  const { uptime } = turn.context;
  const { state, cards } = turn.member;
  const wanted = new Set(
    [...state.metaInstances.values()].filter(({ modelCard }) => !modelCard)
      .map(({ modelId }) => modelId),
  );
  const asked = new Map<ModelId, CardQuestion>();
  for (const modelId of wanted) {
    const before = cards.get(modelId);
    const isOld = before !== undefined && uptime >= before.at + CARD_RETRY_MS;
    if (!before || (isOld && before.lookup?.ok !== true)) {
      turn.said.push({ type: "LookUpCard", modelId });
      asked.set(modelId, { at: uptime, lookup: before?.lookup });
    } else if (!before.lookup && uptime >= before.at + CARD_LOOKUP_MS) {
      const reason = `nobody could tell within ${CARD_LOOKUP_MS / 1_000} s`;
      asked.set(modelId, { at: before.at, lookup: { ok: false, reason } });
    } else asked.set(modelId, before);
  }
  if (asked.size > 0 || cards.size > 0) update(turn, { cards: asked });
}

/** The shell could tell what a model is, or not. */
export function cardLookedUp(
  turn: Turn,
  { modelId, lookup }: Extract<Input, { type: "CardLookup" }>,
): void {
  const { cards } = turn.member;
  if (!cards.has(modelId)) return dropMessage(turn);
  update(turn, { cards: put(cards, modelId, { at: turn.context.uptime, lookup }) });
  setReign(turn, { reconcileAt: turn.context.uptime });
}

/** What the followers are told of this step's events; a few of them acknowledge them at once. */
export function eventsToPublish(turn: Turn): MessageOf<"Events">[] {
  const reign = reignOf(turn.member);
  if (!reign) return [];
  const { epoch } = reign;
  const acknowledgers = liveFollowers(reign, turn.context.uptime).slice(0, ACKNOWLEDGERS_MAX);
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
  const { reign } = turn.member;
  if (reign) update(turn, { reign: { ...reign, ...fields } });
}

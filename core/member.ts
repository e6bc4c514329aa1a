/**
 * One node's whole control plane as a pure machine: who leads, what is in the log, what was asked
 * and what is reported. Inputs go in, outputs come out; the shell owns clock, disk and wire.
 */
import { electionWakeAt, LEASE_MS, newElection, staggerMs } from "./election.ts";
import type { NodeId } from "./ids.ts";
import type { Epoch } from "./lineage.ts";
import { headOf, tailAt } from "./log_tail.ts";
import {
  commandAnswered,
  commandAsked,
  commandRequested,
  commandsWakeAt,
  settleCommands,
} from "./member_commands.ts";
import { cardLookedUp } from "./member_cards.ts";
import {
  candidacyHeard,
  headRequested,
  headStateHeard,
  heartbeatHeard,
  objectionHeard,
  peerConnected,
  peerDisconnected,
  settleElection,
} from "./member_election.ts";
import {
  gatherAsked,
  gathersWakeAt,
  pieceHeard,
  roundEnded,
  settleGathers,
} from "./member_gathers.ts";
import { eventsHeard, followerWakeAt, settleFollower, snapshotHeard } from "./member_follower.ts";
import { factsTold, leave, settleLeaving } from "./member_leaving.ts";
import {
  beginReign,
  eventsToPublish,
  followingHeard,
  noticePause,
  reportHeard,
  settleMaster,
  syncRequested,
} from "./member_master.ts";
import { newerEpoch } from "./member_log.ts";
import type { Input, Member, Output, StepContext, Turn } from "./member_state.ts";
import { dropMessage } from "./member_state.ts";
import {
  NOTHING_DUE,
  seen,
  settleTelemetry,
  telemetryHeard,
  telemetryMeasured,
  telemetryWakeAt,
  tellNewMaster,
} from "./member_telemetry.ts";
import { NO_FACTS } from "./facts.ts";
import { clockOf, EPOCH_CLOCK_LEAP_MAX, type Message } from "./protocol.ts";
import type { State } from "./state.ts";
import { NO_TELEMETRY } from "./telemetry.ts";
import type { Millis } from "./units.ts";

export { hasLeft } from "./member_leaving.ts";
export type { Input, Member, Output, StepContext } from "./member_state.ts";

/** What a member starts from. */
export interface MemberOptions {
  readonly nodeId: NodeId;
  /** As the disk has it. A node that has lost its disk is another node: its id was on it. */
  readonly state: State;
  /** The newest epoch that it ever led or followed, as the disk has it. */
  readonly epoch?: Epoch | undefined;
  readonly branch?: State | undefined;
  /** Whether no other node can be there: it leads at once. */
  readonly isAlone: boolean;
  /** `FORCED_SENIORITY` or `NON_CANDIDATE_SENIORITY`; absent: as it turns out. */
  readonly seniority?: number | undefined;
}

/** A member and what it wants done. */
export interface Stepped {
  readonly member: Member;
  readonly outputs: readonly Output[];
}

/** A node starts: it listens for a master first, or leads at once when it is alone. */
export function startMember(options: MemberOptions, context: StepContext): Stepped {
  const { nodeId, state, branch, isAlone, seniority = 0 } = options;
  const epoch = newerEpoch(options.epoch, headOf(state).epoch);
  const { uptime } = context;
  const quietUntil = uptime + LEASE_MS + staggerMs(nodeId);
  const member: Member = {
    nodeId,
    state,
    role: "candidate",
    epoch,
    master: undefined,
    branch,
    tail: tailAt(state),
    election: newElection(nodeId, { seniority, clock: epoch?.clock ?? 0, quietUntil }),
    following: undefined,
    reign: undefined,
    fetching: undefined,
    pending: new Map(),
    facts: NO_FACTS,
    isLeaving: false,
    telemetry: NO_TELEMETRY,
    telemetryDue: { ...NOTHING_DUE, at: uptime, refreshAt: uptime },
    cards: new Map(),
    gathering: new Map(),
    dropped: 0,
  };
  return turned(member, context, (turn) => {
    if (isAlone && seniority >= 0) beginReign(turn, 1);
  });
}

/** One step: the member after an input, and what is to be done, in this order. */
export function step(member: Member, input: Input, context: StepContext): Stepped {
  return turned(member, context, (turn) => take(turn, input));
}

/** The `uptime` at which a `Tick` is due if nothing else comes; undefined: never. */
export function wakeAt(member: Member): Millis | undefined {
  const { role, election, reign, following, fetching } = member;
  const electionAt = role === "candidate" ? electionWakeAt(election) : undefined;
  const times = [
    ...(fetching ? [fetching.askAt, fetching.until] : electionAt === undefined ? [] : [electionAt]),
    ...(reign ? [reign.heartbeatAt, reign.reconcileAt] : []),
    ...(following ? [following.heardAt + LEASE_MS, ...followerWakeAt(member)] : []),
    ...commandsWakeAt(member),
    ...gathersWakeAt(member),
    ...telemetryWakeAt(member),
  ];
  return times.length === 0 ? undefined : Math.min(...times);
}

/** A turn: the input, then all that is due; disk first, then what happened, then what is said. */
function turned(before: Member, context: StepContext, act: (turn: Turn) => void): Stepped {
  const turn: Turn = {
    member: before,
    context,
    disk: [],
    fresh: [],
    said: [],
    ids: 0,
    previous: headOf(before.state),
  };
  noticePause(turn);
  act(turn);
  settleElection(turn);
  const { epoch } = turn.member;
  if (epoch !== before.epoch) tellNewMaster(turn);
  if (turn.member.role === "master") settleCommands(turn);
  settleMaster(turn, before);
  settleLeaving(turn);
  settleFollower(turn, before);
  settleCommands(turn);
  settleGathers(turn);
  settleTelemetry(turn);
  const persist: Output[] = turn.fresh.length > 0 ? [{ type: "Persist", events: turn.fresh }] : [];
  const published = eventsToPublish(turn)
    .map((message): Output => ({ type: "Broadcast", message }));
  return {
    member: turn.member,
    outputs: [...turn.disk, ...persist, ...published, ...turn.said],
  };
}

function take(turn: Turn, input: Input): void {
  switch (input.type) {
    case "Tick":
      return;
    case "Message":
      return messageHeard(turn, input.from, input.message);
    case "PeerConnected":
      return peerConnected(turn, input.peer);
    case "PeerDisconnected":
      return peerDisconnected(turn, input.peer);
    case "Command":
      return commandAsked(turn, input.command);
    case "Leave":
      return leave(turn);
    case "Facts":
      return factsTold(turn, input.facts);
    case "Telemetry":
      return telemetryMeasured(turn, input);
    case "CardLookup":
      return cardLookedUp(turn, input);
    case "Gather":
      return gatherAsked(turn, input.piece);
    // deno-coverage-ignore-start
    default:
      return input satisfies never;
      // deno-coverage-ignore-stop
  }
}

function messageHeard(turn: Turn, from: NodeId, message: Message): void {
  const { nodeId, election } = turn.member;
  const isLeap = clockOf(message) > election.clock + EPOCH_CLOCK_LEAP_MAX;
  if (from === nodeId || isLeap) return dropMessage(turn);
  seen(turn, from);
  switch (message.type) {
    case "Heartbeat":
      return heartbeatHeard(turn, from, message);
    case "Following":
      return followingHeard(turn, from, message);
    case "Candidacy":
      return candidacyHeard(turn, from, message);
    case "Objection":
      return objectionHeard(turn, message);
    case "Events":
      return eventsHeard(turn, from, message);
    case "SyncRequest":
      return syncRequested(turn, from, message);
    case "Snapshot":
      return snapshotHeard(turn, from, message);
    case "HeadRequest":
      return headRequested(turn, from, message);
    case "HeadState":
      return headStateHeard(turn, from, message);
    case "CommandRequest":
      return commandRequested(turn, from, message);
    case "CommandAnswer":
      return commandAnswered(turn, from, message);
    case "Report":
      return reportHeard(turn, from, message);
    case "Telemetry":
      return telemetryHeard(turn, from, message);
    case "GatherPiece":
      return pieceHeard(turn, from, message);
    case "Gathered":
    case "GatherRefused":
      return roundEnded(turn, from, message);
    // deno-coverage-ignore-start
    default:
      return message satisfies never;
      // deno-coverage-ignore-stop
  }
}

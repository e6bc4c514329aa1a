import type { Command, CommandReply } from "./commands.ts";
import type { Election } from "./election.ts";
import { assert } from "./errors.ts";
import type { EventBuffer } from "./event_buffer.ts";
import type { IndexedEvent } from "./events.ts";
import type { LocalFacts } from "./facts.ts";
import type { CommandId, InstanceId, ModelId, NodeId } from "./ids.ts";
import type { Epoch, Head, Stamp } from "./lineage.ts";
import type { LogTail } from "./log_tail.ts";
import type { Message } from "./protocol.ts";
import type { GatherPiece, GatherRound, PendingGathers } from "./pending_gathers.ts";
import type { PlacementTries } from "./placement_turns.ts";
import type { CardLookup } from "./reconcile.ts";
import type { State } from "./state.ts";
import type { LinkQuality, NodeDisk, NodeMemory, NodeSystem, Telemetry } from "./telemetry.ts";
import type { Millis } from "./units.ts";

/** What a member is told. */
export type Input =
  | { readonly type: "Tick" }
  | { readonly type: "Message"; readonly from: NodeId; readonly message: Message }
  | { readonly type: "PeerConnected"; readonly peer: NodeId }
  | { readonly type: "PeerDisconnected"; readonly peer: NodeId }
  /** Asked at this node; answered by exactly one `Reply`. */
  | { readonly type: "Command"; readonly command: Command }
  /** This node is going to stop; the shell waits for `hasLeft`, but not for long. */
  | { readonly type: "Leave" }
  /** All that this node has to report now, in place of the last. */
  | { readonly type: "Facts"; readonly facts: LocalFacts }
  /** Latest values of this node, by `linkKey` those of its links. */
  | {
    readonly type: "Telemetry";
    readonly memory?: NodeMemory | undefined;
    readonly disk?: NodeDisk | undefined;
    readonly system?: NodeSystem | undefined;
    readonly links?: ReadonlyMap<string, LinkQuality> | undefined;
  }
  | { readonly type: "CardLookup"; readonly modelId: ModelId; readonly lookup: CardLookup }
  /** A rank of this node has a piece for its group; answered by one `GatherEnded`. */
  | { readonly type: "Gather"; readonly piece: GatherPiece };

/** What a member wants done, in this order. */
export type Output =
  | { readonly type: "Send"; readonly to: NodeId; readonly message: Message }
  /** To all peers, best effort. */
  | { readonly type: "Broadcast"; readonly message: Message }
  /** On disk before any later output is performed. */
  | { readonly type: "Persist"; readonly events: readonly IndexedEvent[] }
  /** Replaces log and snapshot on disk, before any later output is performed. */
  | { readonly type: "Install"; readonly state: State; readonly epoch: Epoch }
  /** A branch that waits to be merged, on disk before any later output; undefined: it is. */
  | { readonly type: "KeepBranch"; readonly branch: State | undefined }
  | { readonly type: "Reply"; readonly reply: CommandReply }
  /** The shell answers by a `CardLookup` within 10 s. */
  | { readonly type: "LookUpCard"; readonly modelId: ModelId }
  /** Who leads from here on: this node, or another whose epoch it follows. */
  | { readonly type: "Elected"; readonly epoch: Epoch; readonly isMaster: boolean }
  /** All pieces of a round, by rank, or why there will be none. */
  | {
    readonly type: "GatherEnded";
    readonly round: GatherRound;
    readonly result: { readonly pieces: readonly string[] } | { readonly refused: string };
  };

/** What a step needs that no pure function can know. */
export interface StepContext {
  /** The date; it may jump. */
  readonly now: Millis;
  /** A clock that nobody sets. */
  readonly uptime: Millis;
  /** An id that nobody has used. */
  readonly freshId: string;
}

/** What a follower knows of its master. */
export interface Following {
  readonly master: NodeId;
  readonly epoch: Epoch;
  readonly heardAt: Millis;
  /** How many nodes it has behind it, as it says. */
  readonly seniority: number;
  /** The newest event that it is known to have. */
  readonly knownIdx: number;
  readonly buffer: EventBuffer;
  readonly syncAt: Millis;
  /** Requests since the last that brought something. */
  readonly syncAttempts: number;
  /** When it was told how far this node is. */
  readonly saidAt: Millis;
  readonly objectedAt: Millis;
  readonly reportAt: Millis;
  readonly mergeAt: Millis;
}

/** What a master knows of a follower. */
export interface Follower {
  readonly idx: number;
  readonly heardAt: Millis;
}

/** What a master keeps while it reigns. */
export interface Reign {
  readonly epoch: Epoch;
  readonly since: Millis;
  /** Voters at its election, with itself: they follow as soon as they hear of it. */
  readonly voters: number;
  readonly followers: ReadonlyMap<NodeId, Follower>;
  /** The last answers, so that a command that is asked again is not executed again. */
  readonly replies: ReadonlyMap<CommandId, CommandReply>;
  readonly heartbeatAt: Millis;
  /** What followers said before counts for nothing: the master stood still for a lease. */
  readonly awakeSince: Millis;
  readonly reconciledAt: Millis;
  /** Wishes that were searched a place for in vain. */
  readonly tries: PlacementTries;
  readonly reconcileAt: Millis;
  /** Rounds of side channels; another master begins without. */
  readonly gathers: PendingGathers;
}

/** A voter's newer state that an elected node waits for. */
export interface Fetching {
  readonly from: NodeId;
  readonly clock: number;
  readonly askAt: Millis;
  readonly until: Millis;
  readonly voters: number;
}

/** A command that was asked here and is not answered. */
export interface PendingCommand {
  readonly command: Command;
  readonly askedAt: Millis;
  /** Where in the history the thing was set that it deletes. */
  readonly target?: Stamp;
  /** The epoch in which it was last sent; absent: nobody has seen it. */
  readonly epoch?: Epoch;
  readonly sendAt: Millis;
  /** That it was accepted, while this waits for the log and for a second node. */
  readonly answer?: {
    readonly reply: Extract<CommandReply, { type: "CommandAccepted" }>;
    readonly epoch: Epoch;
    readonly at: Millis;
  };
}

/** A piece of a rank of this node that waits for those of the others. */
export interface Gathering {
  readonly piece: GatherPiece;
  readonly askedAt: Millis;
  readonly sendAt: Millis;
}

/** What is known of a model that wishes name, or when the question for it was asked. */
export interface CardQuestion {
  readonly at: Millis;
  readonly lookup: CardLookup | undefined;
}

/** The tables of latest values that nodes tell each other. */
export type LatestValues = Pick<Telemetry, "memory" | "disk" | "system" | "links">;

/** Latest values on their way to others. */
export interface TelemetryDue {
  readonly memory: ReadonlySet<NodeId>;
  readonly disk: ReadonlySet<NodeId>;
  readonly system: ReadonlySet<NodeId>;
  readonly links: ReadonlySet<string>;
  /** This node's own as it last told them: what has hardly changed since is no news. */
  readonly told: LatestValues;
  readonly at: Millis;
  /** When all own values are told again, since messages are lost. */
  readonly refreshAt: Millis;
}

/** One node's whole control plane as data; `step` leads from one to the next. */
export interface Member {
  readonly nodeId: NodeId;
  /** The replicated state. */
  readonly state: State;
  readonly role: "candidate" | "follower" | "master";
  /** The newest epoch that this node has followed or led. */
  readonly epoch: Epoch | undefined;
  /** Who leads now, as far as this node hears. */
  readonly master: NodeId | undefined;
  /** A state of a side that gave way, until what was asked for there is merged. */
  readonly branch: State | undefined;
  readonly tail: LogTail;
  readonly election: Election;
  readonly following: Following | undefined;
  readonly reign: Reign | undefined;
  readonly fetching: Fetching | undefined;
  readonly pending: ReadonlyMap<CommandId, PendingCommand>;
  readonly facts: LocalFacts;
  /** It is going to stop, and decides nothing more by itself. */
  readonly isLeaving: boolean;
  readonly telemetry: Telemetry;
  readonly telemetryDue: TelemetryDue;
  readonly cards: ReadonlyMap<ModelId, CardQuestion>;
  /** One for each instance at most, since each has one rank here. */
  readonly gathering: ReadonlyMap<InstanceId, Gathering>;
  /** Messages that were stale, foreign or too many. */
  readonly dropped: number;
}

/** A step under way: the member so far, and what it wants done. */
export interface Turn {
  member: Member;
  readonly context: StepContext;
  /** What the disk must have before anything is said. */
  readonly disk: Output[];
  /** Events that were applied in this step, to be persisted. */
  readonly fresh: IndexedEvent[];
  readonly said: Output[];
  /** The head that the first of them follows. */
  previous: Head;
  /** Ids given out in this step. */
  ids: number;
}

/** What a member that follows knows of its master. */
export function followingOf({ following }: Member): Following {
  assert(following, "a follower knows its master");
  return following;
}

/** What a member that leads keeps. */
export function reignOf({ reign }: Member): Reign {
  assert(reign, "a master reigns");
  return reign;
}

/** Changes fields of the member. */
export function update(turn: Turn, fields: Partial<Member>): void {
  turn.member = { ...turn.member, ...fields };
}

/** Sends a message to one node. */
export function send(turn: Turn, to: NodeId, message: Message): void {
  turn.said.push({ type: "Send", to, message });
}

/** Sends a message to all peers. */
export function broadcast(turn: Turn, message: Message): void {
  turn.said.push({ type: "Broadcast", message });
}

/** Counts an input that could not be used. */
export function dropMessage(turn: Turn): void {
  update(turn, { dropped: turn.member.dropped + 1 });
}

/** An id that nobody has used. */
export function freshId(turn: Turn): string {
  const { freshId } = turn.context;
  return turn.ids++ === 0 ? freshId : `${freshId}-${turn.ids}`;
}

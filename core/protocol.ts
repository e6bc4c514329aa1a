import { z } from "zod";
import { boundedArray } from "./bounded.ts";
import { Command, CommandReply } from "./commands.ts";
import { Event, IndexedEvent } from "./events.ts";
import { GROUP_SIZE_MAX } from "./group.ts";
import { InstanceId, NodeId, RunnerId } from "./ids.ts";
import { Epoch, Head, openSegment } from "./lineage.ts";
import { GATHER_CHARS_MAX } from "./pending_gathers.ts";
import { StateJson } from "./state.ts";

/** Most bytes of a message's JSON text; whoever would send more keeps it. */
export const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

/** Nodes that a node keeps account of; what further ones say is dropped. */
export const NODES_MAX = 4_096;

/** Events of one page of a log. */
export const EVENTS_PAGE_MAX = 1_000;

/** Facts of one report; further ones follow once these are in the log. */
export const REPORT_EVENTS_MAX = 256;

/** Latest values of one kind in one message. */
export const TELEMETRY_ENTRIES_MAX = 8_192;

/** Followers that are asked to acknowledge an event at once. */
export const ACKNOWLEDGERS_MAX = 3;

/** Highest clock of an epoch. */
export const EPOCH_CLOCK_MAX = 2 ** 48;

/**
 * How far above its own clock a node believes another: years of elections. So it takes a defective
 * node millions of messages to use up the clocks, not one.
 */
export const EPOCH_CLOCK_LEAP_MAX = 2 ** 24;

/** Runners of one node. */
const RUNNERS_MAX = 1_024;

/** Longest key of a link in `Telemetry.links`. */
const LINK_KEY_CHARS_MAX = 1_024;

const epoch = Epoch.refine(({ clock }) => clock <= EPOCH_CLOCK_MAX, "the clock is too high");
const bytes = z.number().int().min(0);

const reign = {
  epoch,
  head: Head,
  /** Nodes that follow, with the master itself; the forced master says more. */
  seniority: z.number().int(),
};

const gatherRound = {
  instanceId: InstanceId,
  /** As long as the id of a group may be. */
  generation: z.string().max(4_096),
  sequence: z.number().int().min(0),
};

const gatherData = z.base64().max(GATHER_CHARS_MAX);

const NodeMemory = z.object({
  ramTotalBytes: bytes,
  ramAvailableBytes: bytes,
  swapTotalBytes: bytes.optional(),
  swapAvailableBytes: bytes.optional(),
  gpu: z.object({ totalBytes: bytes, availableBytes: bytes }).optional(),
  loadedRunners: boundedArray(RunnerId, RUNNERS_MAX).readonly().optional(),
});

const NodeDisk = z.object({ totalBytes: bytes, availableBytes: bytes });

const usage = z.number().min(0).max(1).optional();
const temperature = z.number().optional();

const NodeSystem = z.object({
  cpuUsage: usage,
  performanceCoreUsage: usage,
  efficiencyCoreUsage: usage,
  gpuUsage: usage,
  cpuTemperatureCelsius: temperature,
  gpuTemperatureCelsius: temperature,
  powerWatts: z.number().min(0).optional(),
});

const LinkQuality = z.object({
  bandwidthBitsPerSecond: z.number().min(0).optional(),
  latencyMs: z.number().min(0).optional(),
});

/**
 * What nodes say to each other. All of it is best effort: whoever needs an answer asks again, and
 * whatever comes late, twice or not at all does no harm.
 */
export const Message = z.discriminatedUnion("type", [
  /** A master reigns, and has come this far: its lease. To all. */
  z.object({ type: z.literal("Heartbeat"), ...reign }),
  z.object({
    type: z.literal("Following"),
    epoch,
    /** How far the log is on this node's disk; −1: not of this epoch yet. */
    idx: z.number().int().min(-1),
    /** It misses heartbeats, and asks for one that is sent to it alone. */
    isDeaf: z.boolean().optional(),
  }),
  /** A node without a master says how it stands; to all, or as a vote for a better one. */
  z.object({
    type: z.literal("Candidacy"),
    /** The clock of the epoch that the winner would begin. */
    clock: z.number().int().min(0).max(EPOCH_CLOCK_MAX),
    seniority: z.number().int(),
    head: Head,
    /** The newest epoch that this node has followed or led. */
    epoch: epoch.optional(),
  }),
  /** "I hear that master", and trust it for so long: to a candidate, or to another master. */
  z.object({
    type: z.literal("Objection"),
    ...reign,
    master: NodeId,
    leaseMs: z.number().int().min(0),
  }),
  /** A page of the log; `previous` is the head that its first event follows. */
  z.object({
    type: z.literal("Events"),
    epoch,
    previous: Head,
    events: boundedArray(IndexedEvent, EVENTS_PAGE_MAX, 1),
    /** Who says at once that its disk has them. */
    acknowledgers: boundedArray(NodeId, ACKNOWLEDGERS_MAX),
  }),
  /** What follows `head`? The answer is `Events`, or a `Snapshot` where `head` is not known. */
  z.object({ type: z.literal("SyncRequest"), epoch, head: Head }),
  z.object({ type: z.literal("Snapshot"), epoch, state: StateJson }),
  /** A node that was elected asks a voter for its newer state, to go on from it. */
  z.object({ type: z.literal("HeadRequest"), clock: z.number().int().min(0) }),
  z.object({ type: z.literal("HeadState"), clock: z.number().int().min(0), state: StateJson }),
  z.object({ type: z.literal("CommandRequest"), epoch, command: Command }),
  z.object({ type: z.literal("CommandAnswer"), epoch, reply: CommandReply }),
  /** Facts about the sender that the log does not have yet. */
  z.object({
    type: z.literal("Report"),
    epoch,
    events: boundedArray(Event, REPORT_EVENTS_MAX, 1),
  }),
  /** Latest values: a node's own to the master, and all that changed from the master to all. */
  z.object({
    type: z.literal("Telemetry"),
    epoch,
    memory: boundedArray(z.tuple([NodeId, NodeMemory]), TELEMETRY_ENTRIES_MAX),
    disk: boundedArray(z.tuple([NodeId, NodeDisk]), TELEMETRY_ENTRIES_MAX),
    system: boundedArray(z.tuple([NodeId, NodeSystem]), TELEMETRY_ENTRIES_MAX),
    links: boundedArray(
      z.tuple([z.string().max(LINK_KEY_CHARS_MAX), LinkQuality]),
      TELEMETRY_ENTRIES_MAX,
    ),
  }),
  /** What the rank on the sender has for a round of its group's side channel; to the master. */
  z.object({ type: z.literal("GatherPiece"), epoch, ...gatherRound, data: gatherData }),
  /** The pieces of all ranks, by rank; to each of their nodes. */
  z.object({
    type: z.literal("Gathered"),
    epoch,
    ...gatherRound,
    pieces: boundedArray(gatherData, GROUP_SIZE_MAX),
  }),
  /** Why a piece counts for nothing. */
  z.object({ type: z.literal("GatherRefused"), epoch, ...gatherRound, reason: z.string() }),
]);
export type Message = z.infer<typeof Message>;

/** A message of one type. */
export type MessageOf<T extends Message["type"]> = Extract<Message, { type: T }>;

/** The highest clock of an epoch of which a message tells; −1: it tells of none. */
export function clockOf(message: Message): number {
  const epochs = [
    "epoch" in message ? message.epoch : undefined,
    "head" in message ? message.head.epoch : undefined,
    message.type === "HeadState" ? openSegment(message.state.lineage)?.epoch : undefined,
  ];
  const asked = message.type === "Candidacy" ? message.clock - 1 : -1;
  return Math.max(asked, ...epochs.map((epoch) => epoch?.clock ?? -1));
}

/** A message as text. */
export function encodeMessage(message: Message): string {
  return JSON.stringify(message);
}

/** The message that a text holds; undefined when it is none, or too long. */
export function decodeMessage(text: string): Message | undefined {
  if (text.length > MESSAGE_BYTES_MAX) return undefined;
  try {
    return Message.parse(JSON.parse(text), { error: refuse });
  } catch {
    return undefined;
  }
}

/** One issue is enough: zod would find words for each of a million. */
function refuse(): never {
  throw new RangeError("it is no message");
}

/**
 * The side channel over which the ranks of a JACCL instance find each other: each sends a piece,
 * and once all have, each gets all pieces. Transient: no event, no part of the state (spec §2.9).
 */
import type { InstanceId, RunnerId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import { drop, put, type State } from "./state.ts";

/** Longest piece of a rank. */
export const GATHER_BYTES_MAX = 65_536;

/** Most rounds of one instance that wait for a rank. */
export const GATHER_ROUNDS_MAX = 8;

/** What a rank sends: the same sequence and generation as all others of its round. */
export interface GatherPiece {
  readonly instanceId: InstanceId;
  /** Counts the attempts of the instance, so that rounds of two attempts never mix. */
  readonly generation: number;
  /** Counts the rounds of an attempt, from 0. */
  readonly sequence: number;
  readonly runnerId: RunnerId;
  readonly data: Uint8Array;
}

/** The rounds of one instance that wait. */
interface Waiting {
  readonly generation: number;
  readonly rounds: ReadonlyMap<number, ReadonlyMap<RunnerId, Uint8Array>>;
}

/** What waits, by instance. */
export type PendingGathers = ReadonlyMap<InstanceId, Waiting>;

/** Nothing waits. */
export const NO_GATHERS: PendingGathers = new Map();

/** What a piece leads to: a full round for all ranks, or a reason why it counts for nothing. */
export interface Gathered {
  readonly pending: PendingGathers;
  /** The pieces of all ranks, in their order. */
  readonly full?: readonly Uint8Array[];
  readonly refused?: string;
}

/** Takes a piece. A rank that sends its piece again replaces it. */
export function gather(pending: PendingGathers, state: State, piece: GatherPiece): Gathered {
  const { instanceId, generation, sequence, runnerId, data } = piece;
  const instance = state.instances.get(instanceId);
  const before = pending.get(instanceId);
  if (!instance) return { pending, refused: "the instance is not known" };
  const refused = whyRefused(instance, before, piece);
  if (refused !== undefined) return { pending, refused };
  const rounds: Waiting["rounds"] = before?.generation === generation ? before.rounds : new Map();
  const round = put(rounds.get(sequence) ?? new Map<RunnerId, Uint8Array>(), runnerId, data);
  const pieces = runnersOf(instance).flatMap((id) => round.get(id) ?? []);
  if (pieces.length === runnersOf(instance).length) {
    return { pending: withRounds(pending, piece, drop(rounds, sequence)), full: pieces };
  }
  if (!rounds.has(sequence) && rounds.size >= GATHER_ROUNDS_MAX) {
    return { pending, refused: `${rounds.size} rounds wait, ${GATHER_ROUNDS_MAX} at most needed` };
  }
  return { pending: withRounds(pending, piece, put(rounds, sequence, round)) };
}

function whyRefused(
  instance: Instance,
  before: Waiting | undefined,
  { generation, runnerId, data }: GatherPiece,
): string | undefined {
  if (!runnersOf(instance).includes(runnerId)) return `runner ${runnerId} is not one of its ranks`;
  if (data.length > GATHER_BYTES_MAX) {
    return `found ${data.length} bytes, ${GATHER_BYTES_MAX} at most needed`;
  }
  const isOld = before !== undefined && generation < before.generation;
  return isOld ? `found generation ${generation}, ${before.generation} needed` : undefined;
}

/** The generation stays known once its rounds are over, so that none of an older one begins. */
function withRounds(
  pending: PendingGathers,
  { instanceId, generation }: GatherPiece,
  rounds: Waiting["rounds"],
): PendingGathers {
  return put(pending, instanceId, { generation, rounds });
}

/** What still waits once these instances have been tried anew or are gone. */
export function withoutGathers(
  pending: PendingGathers,
  ...instanceIds: readonly InstanceId[]
): PendingGathers {
  return drop(pending, ...instanceIds);
}

/** What waits for instances that are there. */
export function liveGathers(pending: PendingGathers, { instances }: State): PendingGathers {
  return drop(pending, ...[...pending.keys()].filter((id) => !instances.has(id)));
}

/**
 * The side channel over which the ranks of a JACCL instance find each other: each sends a piece,
 * and once all have, each gets all pieces. Transient: no event, no part of the state (spec §2.9).
 */
import { groupIdOf } from "./group.ts";
import type { InstanceId, NodeId, RunnerId } from "./ids.ts";
import { type Instance, nodesByRank, rankOn, runnersOf } from "./instance.ts";
import { drop, put, type State } from "./state.ts";

/** Longest piece of a rank. */
export const GATHER_BYTES_MAX = 65_536;

/** Longest piece as base64. */
export const GATHER_CHARS_MAX = 4 * Math.ceil(GATHER_BYTES_MAX / 3);

/** Names one round: all ranks give the same. */
export interface GatherRound {
  readonly instanceId: InstanceId;
  /** `groupIdOf` these very processes, so that rounds of two attempts never mix. */
  readonly generation: string;
  /** Counts the rounds of a generation, from 0. */
  readonly sequence: number;
}

/** What a rank sends in a round; which rank it is, the node says that sends it. */
export interface GatherPiece extends GatherRound {
  /** Base64: nobody on the way looks into it. */
  readonly data: string;
}

/** An instance's round that waits. There is but one: no rank begins another before it has this. */
interface Waiting {
  readonly generation: string;
  readonly sequence: number;
  readonly pieces: ReadonlyMap<RunnerId, string>;
  /** All pieces of the round before, for a rank that has not heard of them. */
  readonly last: readonly string[];
}

/** What waits, by instance. */
export type PendingGathers = ReadonlyMap<InstanceId, Waiting>;

/** Nothing waits. */
export const NO_GATHERS: PendingGathers = new Map();

/** What a piece leads to. */
export interface Gathered {
  readonly pending: PendingGathers;
  /** All pieces, by rank, and the nodes that are to have them; absent while a rank is missing. */
  readonly full?: { readonly pieces: readonly string[]; readonly to: readonly NodeId[] };
  /** Why the piece counts for nothing. */
  readonly refused?: string;
}

/** Takes a piece of the rank on node `from`. One that comes again replaces the first. */
export function gather(
  pending: PendingGathers,
  state: State,
  { from, piece }: { readonly from: NodeId; readonly piece: GatherPiece },
): Gathered {
  const { instanceId, generation, sequence, data } = piece;
  const instance = state.instances.get(instanceId);
  if (!instance) return { pending, refused: "the instance is not known" };
  const runnerId = rankOn(instance, from)?.runnerId;
  if (runnerId === undefined) return { pending, refused: "it has no rank on this node" };
  if (generation !== generationOf(state, instance)) {
    return { pending, refused: "its processes are others by now" };
  }
  const before = pending.get(instanceId);
  const known = before?.generation === generation ? before : undefined;
  const next = known?.sequence ?? 0;
  if (known && sequence === next - 1) return { pending, full: { pieces: known.last, to: [from] } };
  if (sequence !== next) {
    return { pending, refused: `found round ${sequence}, round ${next} needed by this master` };
  }
  const pieces = put(known?.pieces ?? new Map<RunnerId, string>(), runnerId, data);
  const all = runnersOf(instance).flatMap((id) => pieces.get(id) ?? []);
  const last = known?.last ?? [];
  if (all.length < runnersOf(instance).length) {
    return { pending: put(pending, instanceId, { generation, sequence, pieces, last }) };
  }
  const after = { generation, sequence: sequence + 1, pieces: new Map(), last: all };
  const full = { pieces: all, to: nodesByRank(instance) };
  return { pending: put(pending, instanceId, after), full };
}

/** What waits for processes that are there: not for those of an instance that is tried anew. */
export function liveGathers(pending: PendingGathers, state: State): PendingGathers {
  const over = [...pending].filter(([instanceId, { generation }]) => {
    const instance = state.instances.get(instanceId);
    return !instance || generationOf(state, instance) !== generation;
  });
  return drop(pending, ...over.map(([instanceId]) => instanceId));
}

function generationOf({ runners }: State, instance: Instance): string {
  const starts = runnersOf(instance).map((id) => [id, runners.get(id)?.incarnation] as const);
  return groupIdOf(instance, new Map(starts));
}

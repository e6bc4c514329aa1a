/**
 * Rounds of the side channels of groups: a node's piece on its way to the master, which answers
 * once it has those of all ranks. A master knows of no rounds but its own: where another comes in
 * between, a group that had begun fails, and the next one begins anew.
 */
import type { NodeId } from "./ids.ts";
import { compareEpochs } from "./lineage.ts";
import {
  dropMessage,
  followingOf,
  type Gathering,
  reignOf,
  send,
  type Turn,
  update,
} from "./member_state.ts";
import type { Member, Output } from "./member_state.ts";
import { gather, type GatherPiece, type GatherRound, liveGathers } from "./pending_gathers.ts";
import type { MessageOf } from "./protocol.ts";
import { drop, put } from "./state.ts";
import type { Millis } from "./units.ts";

/** How often a piece is sent to the master until all are there. */
export const GATHER_RETRY_MS = 500;

/** How long a piece waits for those of the other ranks. */
export const GATHER_TIMEOUT_MS = 30_000;

type Result = Extract<Output, { type: "GatherEnded" }>["result"];

/** A rank of this node has a piece; one of an earlier process of it waits no more. */
export function gatherAsked(turn: Turn, piece: GatherPiece): void {
  const { uptime } = turn.context;
  setGathering(turn, { piece, askedAt: uptime, sendAt: uptime });
}

/** Sends what waits here, and gives up what has waited too long. */
export function settleGathers(turn: Turn): void {
  const { uptime } = turn.context;
  const { reign } = turn.member;
  if (reign) {
    const gathers = liveGathers(reign.gathers, turn.member.state);
    if (gathers !== reign.gathers) update(turn, { reign: { ...reign, gathers } });
  }
  for (const gathering of turn.member.gathering.values()) {
    if (uptime >= gathering.askedAt + GATHER_TIMEOUT_MS) giveUp(turn, gathering);
    else if (uptime >= gathering.sendAt) sendPiece(turn, gathering);
  }
}

function giveUp(turn: Turn, { piece }: Gathering): void {
  const refused = `not all ranks sent round ${piece.sequence} within ${
    GATHER_TIMEOUT_MS / 1_000
  } s`;
  ended(turn, piece, { refused });
}

function sendPiece(turn: Turn, gathering: Gathering): void {
  const { nodeId, reign, following } = turn.member;
  const { piece } = gathering;
  if (!reign && !following) return;
  setGathering(turn, { ...gathering, sendAt: turn.context.uptime + GATHER_RETRY_MS });
  if (reign) return take(turn, nodeId, piece);
  const { master, epoch } = followingOf(turn.member);
  send(turn, master, { type: "GatherPiece", epoch, ...piece });
}

/** A piece of another node. */
export function pieceHeard(turn: Turn, from: NodeId, message: MessageOf<"GatherPiece">): void {
  const { reign } = turn.member;
  const { type: _, epoch, ...piece } = message;
  if (!reign || compareEpochs(epoch, reign.epoch) !== 0) return dropMessage(turn);
  take(turn, from, piece);
}

/** The master takes a piece, and tells all ranks once it was the last. */
function take(turn: Turn, from: NodeId, piece: GatherPiece): void {
  const reign = reignOf(turn.member);
  const { pending, full, refused } = gather(reign.gathers, turn.member.state, { from, piece });
  update(turn, { reign: { ...reign, gathers: pending } });
  if (refused !== undefined) answer(turn, from, piece, { refused });
  if (full) { for (const nodeId of full.to) answer(turn, nodeId, piece, { pieces: full.pieces }); }
}

function answer(turn: Turn, to: NodeId, round: GatherRound, result: Result): void {
  const { epoch } = reignOf(turn.member);
  const { instanceId, generation, sequence } = round;
  const which = { epoch, instanceId, generation, sequence };
  if (to === turn.member.nodeId) return ended(turn, which, result);
  if ("refused" in result) {
    return send(turn, to, { type: "GatherRefused", ...which, reason: result.refused });
  }
  send(turn, to, { type: "Gathered", ...which, pieces: [...result.pieces] });
}

/** The master's answer. */
export function roundEnded(
  turn: Turn,
  from: NodeId,
  message: MessageOf<"Gathered" | "GatherRefused">,
): void {
  const { following } = turn.member;
  const isMaster = from === following?.master &&
    compareEpochs(message.epoch, following.epoch) === 0;
  if (!isMaster) return dropMessage(turn);
  const { type } = message;
  ended(turn, message, type === "Gathered" ? message : { refused: message.reason });
}

/** Tells the shell, once: an answer that comes again finds nobody who waits. */
function ended(turn: Turn, { instanceId, generation, sequence }: GatherRound, result: Result) {
  const piece = turn.member.gathering.get(instanceId)?.piece;
  if (piece?.generation !== generation || piece.sequence !== sequence) return dropMessage(turn);
  update(turn, { gathering: drop(turn.member.gathering, instanceId) });
  const round = { instanceId, generation, sequence };
  const told = "refused" in result ? result : { pieces: result.pieces };
  turn.said.push({ type: "GatherEnded", round, result: told });
}

/** When a piece has to be looked at if nobody speaks. */
export function gathersWakeAt({ gathering, reign, following }: Member): Millis[] {
  const canSend = reign !== undefined || following !== undefined;
  return [...gathering.values()].flatMap(({ askedAt, sendAt }) => [
    askedAt + GATHER_TIMEOUT_MS,
    ...(canSend ? [sendAt] : []),
  ]);
}

function setGathering(turn: Turn, gathering: Gathering): void {
  const { instanceId } = gathering.piece;
  update(turn, { gathering: put(turn.member.gathering, instanceId, gathering) });
}

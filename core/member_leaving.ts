/** How a node that is going to stop says so, so that nobody has to find out. */
import { NON_CANDIDATE_SENIORITY } from "./election.ts";
import type { Event } from "./events.ts";
import { type LocalFacts, NO_FACTS } from "./facts.ts";
import { liveFollowers } from "./member_master.ts";
import { type Member, type Turn, update } from "./member_state.ts";
import type { Millis } from "./units.ts";

/** This node is going to stop: from here on that is all that it has to report. */
export function leave(turn: Turn): void {
  const { nodeId, facts, election } = turn.member;
  const started = facts.reports.get("node");
  const left: [string, Event][] = started?.type === "NodeStarted"
    ? [["node", { type: "NodeLeft", nodeId, incarnation: started.incarnation }]]
    : [];
  update(turn, {
    isLeaving: true,
    // It may still vote.
    election: { ...election, seniority: NON_CANDIDATE_SENIORITY },
    facts: { ...NO_FACTS, reports: new Map(left) },
  });
}

/** A master whose departure is known is silent from then on: its runners may take a while to end. */
export function settleLeaving(turn: Turn): void {
  const { isLeaving, reign } = turn.member;
  const { uptime } = turn.context;
  if (!isLeaving || !reign || liveFollowers(reign, uptime).length === 0) return;
  if (!hasLeft(turn.member, uptime)) return;
  update(turn, { role: "candidate", master: undefined, reign: undefined });
}

/** Facts as they are told; of a node that is leaving none is of use any more. */
export function factsTold(turn: Turn, facts: LocalFacts): void {
  if (!turn.member.isLeaving) update(turn, { facts });
}

/**
 * Whether a node that is leaving may stop: its departure is in the log of another node, or there is
 * none to be told. Alone, it leaves nothing behind: it comes back to what it had.
 */
export function hasLeft(member: Member, uptime: Millis): boolean {
  const { facts, nodeId, state, reign } = member;
  if (facts.reports.size === 0) return true;
  const isGone = !state.nodes.has(nodeId);
  if (!reign) return isGone;
  const live = liveFollowers(reign, uptime);
  return live.length === 0 ||
    (isGone && live.some(([, { idx }]) => idx >= state.lastEventAppliedIdx));
}

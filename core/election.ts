import type { NodeId } from "./ids.ts";
import { compareHeads, type Epoch, type Head } from "./lineage.ts";
import { put } from "./state.ts";
import type { Millis } from "./units.ts";

/** How long a master counts as alive after its last heartbeat. */
export const LEASE_MS = 1_000;

/** How long a campaign waits for better candidates. */
export const CAMPAIGN_MS = 750;

/** How often a candidate repeats itself, since messages are lost. */
export const CAMPAIGN_REPEAT_MS = 250;

/** Campaigns begin up to this much apart, so that not all nodes begin one at once. */
export const STAGGER_MS = 200;

/** Seniority of a node that leads whenever it can. */
export const FORCED_SENIORITY = 1_000_000;

/** Seniority of a node that never leads. */
export const NON_CANDIDATE_SENIORITY = -1;

/** How a node stands in a round: the greatest clock, then seniority, head and id wins. */
export interface Candidacy {
  /** The clock of the epoch that the winner would begin. */
  readonly clock: number;
  /** Distinct nodes that followed it, with itself; 0 before any. */
  readonly seniority: number;
  readonly head: Head;
  /** The newest epoch that it has followed or led. */
  readonly epoch?: Epoch | undefined;
}

/** A round that is under way. */
export interface Campaign {
  readonly until: Millis;
  readonly repeatAt: Millis;
  /** All others that said how they stand at this clock. */
  readonly candidates: ReadonlyMap<NodeId, Candidacy>;
}

/** What a node knows of elections. It hears no master while it has a part in one. */
export interface Election {
  readonly nodeId: NodeId;
  readonly seniority: number;
  /** The highest clock of an epoch that anybody has told of; a campaign alone never raises it. */
  readonly clock: number;
  readonly campaign: Campaign | undefined;
  /** It begins no campaign of its own before. */
  readonly quietUntil: Millis;
}

/** What an election is told. */
export type ElectionInput =
  | { readonly type: "Tick" }
  | { readonly type: "Candidacy"; readonly from: NodeId; readonly candidacy: Candidacy }
  /** A master reigns, and is trusted for `leaseMs`. */
  | { readonly type: "MasterHeard"; readonly clock: number; readonly leaseMs: Millis }
  /** A connection is new, or the master's is gone: no more waiting than `patienceMs`. */
  | { readonly type: "Hasten"; readonly patienceMs: Millis };

/** What an election wants done. */
export type ElectionOutput =
  /** Say to all, or to one, how this node stands. */
  | { readonly type: "Broadcast"; readonly candidacy: Candidacy }
  | { readonly type: "Send"; readonly to: NodeId; readonly candidacy: Candidacy }
  | { readonly type: "Won"; readonly voters: ReadonlyMap<NodeId, Candidacy> }
  | { readonly type: "Lost"; readonly winner: NodeId };

/** What an election needs to know of its node. */
export interface ElectionContext {
  readonly uptime: Millis;
  readonly head: Head;
  readonly epoch: Epoch | undefined;
}

interface Stepped {
  readonly election: Election;
  readonly outputs: readonly ElectionOutput[];
}

/** A node that has taken part in no election, and listens for `listenMs` first. */
export function newElection(
  nodeId: NodeId,
  { seniority, clock, quietUntil }: Pick<Election, "seniority" | "clock" | "quietUntil">,
): Election {
  return { nodeId, seniority, clock, quietUntil, campaign: undefined };
}

/** One step: the election after an input, and what is to be done. */
export function stepElection(
  election: Election,
  input: ElectionInput,
  context: ElectionContext,
): Stepped {
  switch (input.type) {
    case "Tick":
      return tick(election, context);
    case "Candidacy":
      return candidacyHeard(election, input, context);
    case "MasterHeard": {
      const clock = Math.max(election.clock, input.clock);
      const quietUntil = context.uptime + input.leaseMs + staggerMs(election.nodeId);
      return { election: { ...election, clock, quietUntil, campaign: undefined }, outputs: [] };
    }
    case "Hasten": {
      const soon = context.uptime + input.patienceMs + staggerMs(election.nodeId);
      const quietUntil = Math.min(election.quietUntil, soon);
      return { election: { ...election, quietUntil }, outputs: [] };
    }
    // deno-coverage-ignore-start
    default:
      return input satisfies never;
      // deno-coverage-ignore-stop
  }
}

/** When the election has to be ticked. */
export function electionWakeAt({ campaign, quietUntil, seniority }: Election): Millis | undefined {
  if (campaign) return Math.min(campaign.until, campaign.repeatAt);
  return seniority < 0 ? undefined : quietUntil;
}

/** How this node stands now. */
export function candidacyOf(
  { clock, seniority }: Election,
  { head, epoch }: ElectionContext,
): Candidacy {
  return { clock: clock + 1, seniority, head, ...(epoch ? { epoch } : {}) };
}

/** A part of `STAGGER_MS` that is a node's own. FNV-1a over its id. */
export function staggerMs(nodeId: NodeId): Millis {
  let hash = 0x811c9dc5;
  for (const char of nodeId) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
  return (hash >>> 0) % STAGGER_MS;
}

/** Positive when `a` is the better candidate. */
export function compareCandidates(
  [aId, a]: readonly [NodeId, Candidacy],
  [bId, b]: readonly [NodeId, Candidacy],
): number {
  return a.clock - b.clock || a.seniority - b.seniority || compareHeads(a.head, b.head) ||
    (aId < bId ? -1 : 1);
}

function tick(election: Election, context: ElectionContext): Stepped {
  const { campaign, seniority, quietUntil } = election;
  const { uptime } = context;
  if (!campaign) {
    const isIdle = seniority < 0 || uptime < quietUntil;
    return isIdle ? { election, outputs: [] } : begin(election, new Map(), context);
  }
  if (uptime >= campaign.until) return conclude(election, campaign, context);
  if (uptime < campaign.repeatAt) return { election, outputs: [] };
  const repeatAt = uptime + CAMPAIGN_REPEAT_MS;
  const repeated = { ...election, campaign: { ...campaign, repeatAt } };
  return { election: repeated, outputs: announcement(repeated, campaign.candidates, context) };
}

/** A fresh round, with what was heard of it. */
function begin(
  election: Election,
  candidates: ReadonlyMap<NodeId, Candidacy>,
  context: ElectionContext,
): Stepped {
  const { uptime } = context;
  const campaign = {
    until: uptime + CAMPAIGN_MS,
    repeatAt: uptime + CAMPAIGN_REPEAT_MS,
    candidates,
  };
  const begun = { ...election, campaign };
  return { election: begun, outputs: announcement(begun, candidates, context) };
}

/**
 * Said to all by the best candidate, and to the best one alone by the others: that is their vote.
 * So a thousand nodes do not all speak to all.
 */
function announcement(
  election: Election,
  candidates: ReadonlyMap<NodeId, Candidacy>,
  context: ElectionContext,
): ElectionOutput[] {
  const candidacy = candidacyOf(election, context);
  const best = bestOf([...candidates, [election.nodeId, candidacy]]);
  if (best !== election.nodeId) return [{ type: "Send", to: best, candidacy }];
  return election.seniority < 0 ? [] : [{ type: "Broadcast", candidacy }];
}

function bestOf(candidates: readonly (readonly [NodeId, Candidacy])[]): NodeId {
  return candidates.reduce((a, b) => (compareCandidates(a, b) > 0 ? a : b))[0];
}

function candidacyHeard(
  election: Election,
  { from, candidacy }: Extract<ElectionInput, { type: "Candidacy" }>,
  context: ElectionContext,
): Stepped {
  const mine = candidacyOf(election, context);
  // A node that was away learns the clock, instead of waiting in a round of its own.
  if (candidacy.clock < mine.clock) {
    return { election, outputs: [{ type: "Send", to: from, candidacy: mine }] };
  }
  const { campaign } = election;
  if (candidacy.clock > mine.clock || !campaign) {
    const clock = candidacy.clock - 1;
    return begin({ ...election, clock }, new Map([[from, candidacy]]), context);
  }
  const isNew = !campaign.candidates.has(from);
  const candidates = put(campaign.candidates, from, candidacy);
  const joined = { ...election, campaign: { ...campaign, candidates } };
  const isBetter = compareCandidates([from, candidacy], [election.nodeId, mine]) > 0;
  const outputs = isNew && isBetter ? announcement(joined, candidates, context) : [];
  return { election: joined, outputs };
}

function conclude(election: Election, campaign: Campaign, context: ElectionContext): Stepped {
  const { candidates } = campaign;
  const winner = bestOf([...candidates, [election.nodeId, candidacyOf(election, context)]]);
  const quietUntil = context.uptime + LEASE_MS + staggerMs(election.nodeId);
  const over = { ...election, campaign: undefined, quietUntil };
  if (winner !== election.nodeId) {
    return { election: over, outputs: [{ type: "Lost", winner }] };
  }
  if (election.seniority < 0) return { election: over, outputs: [] };
  const seniority = Math.max(election.seniority, candidates.size + 1);
  return { election: { ...over, seniority }, outputs: [{ type: "Won", voters: candidates }] };
}

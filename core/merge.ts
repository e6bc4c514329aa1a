/** What two sides of a partition owe each other when they meet again (design D15). */
import type { Command } from "./commands.ts";
import type { Decision } from "./decision.ts";
import { AppError } from "./errors.ts";
import type { Event } from "./events.ts";
import type { InstanceId, MetaInstanceId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import type { InstanceLink } from "./instance_link.ts";
import { type IntentKey, type IntentKind, partsOf } from "./intent_key.ts";
import {
  closedAt,
  compareEpochs,
  isInHistory,
  type Lineage,
  LINEAGE_SEGMENTS_MAX,
  openSegment,
  segmentsBeyond,
  type Stamp,
} from "./lineage.ts";
import { isReady } from "./master_instances.ts";
import type { MetaInstance } from "./meta_instance.ts";
import type { State } from "./state.ts";

type MergeLineage = Extract<Command, { type: "MergeLineage" }>;

/** What a side that gives way brings along: a `MergeLineage` but for its id. */
export type Branch = Omit<MergeLineage, "type" | "commandId">;

/**
 * What the side that gives way has to bring to the winner: what was asked for on its side alone,
 * and what of the winner's things it had deleted. Undefined when the winner knows its whole
 * history. A branch in which nothing was asked for is brought, too: that a thing had come and gone
 * there tells it from one that the winner has never heard of.
 */
export function branchOf(branch: State, winner: State): Branch | undefined {
  const [ours, theirs] = [historyOf(branch), historyOf(winner)];
  const segments = segmentsBeyond(ours.segments, theirs);
  if (segments.length === 0) return undefined;
  /** Where a thing was set on this side after all that the winner knows of it. */
  const newStamp = (kind: IntentKind, id: string): Stamp | undefined => {
    const [here, there] = [branch.stamps, winner.stamps].map((all) => all.get(`${kind}:${id}`));
    const isNew = here !== undefined && !isInHistory(theirs, here) &&
      (there === undefined || isInHistory(ours, there));
    return isNew ? here : undefined;
  };
  const created = <T>(kind: IntentKind, table: ReadonlyMap<string, T>): [Stamp, T][] =>
    [...table].flatMap(([id, thing]) => {
      const stamp = newStamp(kind, id);
      return stamp ? [[stamp, thing]] : [];
    });
  const deleted = [...winner.stamps].flatMap(([key, stamp]) => {
    const { kind, id } = partsOf(key);
    const isReplaced = newStamp(kind, id) !== undefined;
    const isGone = !branch.stamps.has(key) && !wentByItself(key, { branch, winner });
    return isInHistory(ours, stamp) && (isReplaced || isGone) ? [{ key, stamp }] : [];
  });
  return {
    against: winner.lineage.segments,
    segments,
    modelCards: created("card", branch.customModelCards)
      .map(([stamp, modelCard]) => ({ stamp, modelCard })),
    metaInstances: created("meta", branch.metaInstances)
      .map(([stamp, metaInstance]) => ({ stamp, metaInstance })),
    instances: created("instance", branch.instances)
      .map(([stamp, instance]) => ({ stamp, instance, isServing: isReady(branch, instance) })),
    links: created("link", branch.instanceLinks).map(([stamp, link]) => ({ stamp, link })),
    deleted,
  };
}

/**
 * Whether a thing that one side lacks went without anybody asking: an instance of a wish, which
 * comes and goes with the health of its nodes, and a link that lost such an end.
 */
function wentByItself(
  key: IntentKey,
  { branch, winner }: { branch: State; winner: State },
): boolean {
  const { kind, id } = partsOf(key);
  const isLost = (end: InstanceId) =>
    winner.instances.get(end)?.metaInstanceId !== undefined && !branch.instances.has(end);
  if (kind === "instance") return isLost(id as InstanceId);
  const link = kind === "link" ? linkOf(winner, id) : undefined;
  return [...link?.prefillInstances ?? [], ...link?.decodeInstances ?? []].some(isLost);
}

function linkOf(state: State, id: string): InstanceLink | undefined {
  return [...state.instanceLinks.values()].find(({ linkId }) => linkId === id);
}

/** All that a state has seen, and nothing that is yet to come. */
function historyOf({ lineage, lastEventAppliedIdx }: State): ReturnType<typeof closedAt> {
  return closedAt(lineage, lastEventAppliedIdx);
}

/**
 * Merges a branch as one event, or none when all of it is known. Whatever has happened here since
 * the other side looked is judged again: a thing that was set on both sides stays as it is here.
 * @throws {AppError} when the branch cannot be one.
 */
export function decideMerge(state: State, command: MergeLineage): Decision {
  check(state, command);
  const history = historyOf(state);
  const segments = segmentsBeyond(command.segments, history);
  if (segments.length === 0) return { events: [] };
  refuseOutdated(history, command);
  const gone = goneThings(state, command);
  const isWanted = (kind: IntentKind, id: string, stamp: Stamp) =>
    !isInHistory(history, stamp) &&
    (!state.stamps.has(`${kind}:${id}`) || gone.has(`${kind}:${id}`));
  const modelCards = command.modelCards
    .filter(({ stamp, modelCard }) => isWanted("card", modelCard.modelId, stamp));
  const metaInstances = command.metaInstances
    .filter(({ stamp, metaInstance }) => isWanted("meta", metaInstance.metaInstanceId, stamp))
    .map(({ stamp, metaInstance }) => ({ stamp, metaInstance: placedAnew(metaInstance) }));
  const links = command.links.filter(({ stamp, link }) => isWanted("link", link.linkId, stamp));
  // What is replaced is not deleted first: nothing that hangs on it goes along.
  for (const { modelCard } of modelCards) gone.delete(`card:${modelCard.modelId}`);
  for (const { metaInstance } of metaInstances) gone.delete(`meta:${metaInstance.metaInstanceId}`);
  for (const { link } of links) gone.delete(`link:${link.linkId}`);
  for (const { instanceId, metaInstanceId } of state.instances.values()) {
    if (metaInstanceId && gone.has(`meta:${metaInstanceId}`)) gone.add(`instance:${instanceId}`);
  }
  const isWish = (id: MetaInstanceId) =>
    metaInstances.some(({ metaInstance }) => metaInstance.metaInstanceId === id) ||
    (state.metaInstances.has(id) && !gone.has(`meta:${id}`));
  const candidates = command.instances
    .filter(({ stamp, instance }) => isWanted("instance", instance.instanceId, stamp));
  const instances = instancesThatFit(state, candidates, { gone, isWish });
  const event: Event = {
    type: "LineageMerged",
    segments,
    modelCards,
    metaInstances,
    instances,
    links: links.flatMap(({ stamp, link }) =>
      withLiveEnds(state, { stamp, link, gone, instances })
    ),
    deleted: [...gone],
  };
  return { events: [event] };
}

/** Things here that the other side had deleted or replaced, and that nobody has set since. */
function goneThings(state: State, { deleted }: Branch): Set<IntentKey> {
  const same = deleted.filter(({ key, stamp }) => {
    const here = state.stamps.get(key);
    return here && compareEpochs(here.epoch, stamp.epoch) === 0 && here.idx === stamp.idx;
  });
  return new Set(same.map(({ key }) => key));
}

/** A wish as it begins here: topologies differ, so that a parked one is armed again. */
function placedAnew(meta: MetaInstance): MetaInstance {
  const { nextAttemptAt: _, parkedAtTopologyIdx: __, ...rest } = meta;
  return meta.phase === "parked"
    ? { ...rest, parkedAtTopologyIdx: -1 }
    : { ...rest, phase: "placing" };
}

/**
 * The instances that come along: those of no wish, and for each wish that is served by none here
 * one that serves. It takes the place of those here that do not: they join `gone`.
 */
function instancesThatFit(
  state: State,
  candidates: MergeLineage["instances"],
  { gone, isWish }: { gone: Set<IntentKey>; isWish: (id: MetaInstanceId) => boolean },
): { stamp: Stamp; instance: Instance }[] {
  const stays = [...state.instances.values()]
    .filter(({ instanceId }) => !gone.has(`instance:${instanceId}`));
  const served = new Set(
    stays.filter((one) => isReady(state, one)).map(({ metaInstanceId }) => metaInstanceId),
  );
  const runners = new Set(stays.flatMap(runnersOf));
  return candidates.flatMap(({ stamp, instance, isServing }) => {
    const { metaInstanceId } = instance;
    const isBound = metaInstanceId !== undefined;
    const fits = !isBound || (isServing && isWish(metaInstanceId) && !served.has(metaInstanceId));
    if (!fits || runnersOf(instance).some((id) => runners.has(id))) return [];
    for (const id of runnersOf(instance)) runners.add(id);
    if (isBound) {
      served.add(metaInstanceId);
      const others = stays.filter((one) => one.metaInstanceId === metaInstanceId);
      for (const { instanceId } of others) gone.add(`instance:${instanceId}`);
    }
    return [{ stamp, instance }];
  });
}

/** A link with the ends that are there once all is merged; none when it has lost a side. */
function withLiveEnds(
  state: State,
  { stamp, link, gone, instances }: {
    stamp: Stamp;
    link: InstanceLink;
    gone: ReadonlySet<IntentKey>;
    instances: readonly { instance: Instance }[];
  },
): { stamp: Stamp; link: InstanceLink }[] {
  const isLive = (id: InstanceId) =>
    instances.some(({ instance }) => instance.instanceId === id) ||
    (state.instances.has(id) && !gone.has(`instance:${id}`));
  const prefillInstances = link.prefillInstances.filter(isLive);
  const decodeInstances = link.decodeInstances.filter(isLive);
  if (prefillInstances.length === 0 || decodeInstances.length === 0) return [];
  return [{ stamp, link: { ...link, prefillInstances, decodeInstances } }];
}

/**
 * Refuses what was put together before another branch was merged here: it names no deletion of a
 * thing that only came with that branch. It is put together again, against all that is here now.
 */
function refuseOutdated({ segments, forgottenClock }: ReturnType<typeof historyOf>, due: Branch) {
  const unseen = segmentsBeyond(segments, { segments: due.against, forgottenClock });
  if (unseen.length === 0) return;
  const found = unseen.map(({ epoch }) => epoch.clock).join(", ");
  throw new AppError(
    "conflict",
    `Cannot merge a branch: it was put together before epochs ${found} were known here`,
    { hint: "it is brought again by itself" },
  );
}

/** Refuses a branch that cannot have happened. */
function check(state: State, { segments, ...things }: Branch): void {
  const wrong = (found: string) =>
    new AppError("invalid_request", `Cannot merge a branch: ${found}`, {
      hint: "restart that node: it joins by a snapshot",
    });
  if (segments.length > LINEAGE_SEGMENTS_MAX) {
    throw wrong(`found ${segments.length} segments, ${LINEAGE_SEGMENTS_MAX} at most needed`);
  }
  const reign = openSegment(state.lineage)?.epoch;
  for (const { epoch, firstIdx, lastIdx } of segments) {
    if (lastIdx < firstIdx) throw wrong(`found a segment from ${firstIdx} to ${lastIdx}`);
    if (reign && compareEpochs(epoch, reign) === 0) {
      throw wrong(`found events of epoch ${epoch.clock}, which is this master's own`);
    }
  }
  const branch: Lineage = { segments, forgottenClock: -1 };
  const created = [
    ...things.modelCards,
    ...things.metaInstances,
    ...things.instances,
    ...things.links,
  ];
  const foreign = created.find(({ stamp }) => !isInHistory(branch, stamp));
  if (foreign) {
    const { epoch, idx } = foreign.stamp;
    throw wrong(`found a thing of event ${idx} of epoch ${epoch.clock}, one of its own needed`);
  }
}

/** Latest values of all nodes: to the master, and from it to all (design D3). */
import type { NodeId } from "./ids.ts";
import { compareEpochs, type Epoch } from "./lineage.ts";
import {
  broadcast,
  dropMessage,
  type Input,
  type LatestValues,
  type Member,
  reignOf,
  send,
  type TelemetryDue,
  type Turn,
  update,
} from "./member_state.ts";
import { type MessageOf, NODES_MAX, TELEMETRY_ENTRIES_MAX } from "./protocol.ts";
import { put, type State } from "./state.ts";
import { linkKey, type Telemetry } from "./telemetry.ts";
import { isDiskNews, isLinkNews, isMemoryNews, isSystemNews } from "./telemetry_news.ts";
import { edgesBetween } from "./topology.ts";
import type { Millis } from "./units.ts";

/** Latest values as entries of their tables: what a message has of them. */
type Values = Omit<MessageOf<"Telemetry">, "type" | "epoch">;

/** How often latest values are told while they change. */
export const TELEMETRY_MS = 1_000;

/** How often all own values are told again, and those of nodes that are gone are forgotten. */
export const TELEMETRY_REFRESH_MS = 30_000;

/** Latest values that are told at once: as many links as a message to all can carry. */
export const TELEMETRY_TOLD_MAX = 2_048;

/** How soon those follow that did not get into a message. */
export const TELEMETRY_GAP_MS = 100;

/** For so long after its election a master tells its followers together what it knows. */
export const TELEMETRY_TOGETHER_MS = 2_000;

/** Steps in which it is noted that a node was heard of: no copy of the table for each message. */
export const LAST_SEEN_STEP_MS = 2_000;

/** A message of a node came: it lives. */
export function seen(turn: Turn, nodeId: NodeId): void {
  const { uptime } = turn.context;
  const { telemetry } = turn.member;
  const before = telemetry.lastSeen.get(nodeId);
  if (
    before === undefined
      ? telemetry.lastSeen.size >= NODES_MAX
      : uptime < before + LAST_SEEN_STEP_MS
  ) return;
  const lastSeen = put(telemetry.lastSeen, nodeId, uptime);
  update(turn, { telemetry: { ...telemetry, lastSeen } });
}

/** Nothing to tell, and nothing told. */
export const NOTHING_DUE: Omit<TelemetryDue, "at" | "refreshAt"> = {
  memory: new Set(),
  disk: new Set(),
  system: new Set(),
  links: new Set(),
  told: { memory: new Map(), disk: new Map(), system: new Map(), links: new Map() },
};

/** This node's own latest values; others hear of those that are news. */
export function telemetryMeasured(turn: Turn, input: Extract<Input, { type: "Telemetry" }>): void {
  const { nodeId, telemetry, telemetryDue } = turn.member;
  const { told } = telemetryDue;
  const own = <V>(value: V | undefined): [NodeId, V][] =>
    value === undefined ? [] : [[nodeId, value]];
  const measured = {
    memory: own(input.memory),
    disk: own(input.disk),
    system: own(input.system),
    links: [...input.links ?? []],
  };
  const news = {
    memory: measured.memory.filter(([id, value]) => isMemoryNews(told.memory.get(id), value)),
    disk: measured.disk.filter(([id, value]) => isDiskNews(told.disk.get(id), value)),
    system: measured.system.filter(([id, value]) => isSystemNews(told.system.get(id), value)),
    links: measured.links.filter(([key, value]) => isLinkNews(told.links.get(key), value)),
  };
  update(turn, {
    telemetry: withValues(telemetry, measured),
    telemetryDue: withDue(telemetryDue, news),
  });
}

/** Latest values of another node, or, from the master, of all. */
export function telemetryHeard(turn: Turn, from: NodeId, message: MessageOf<"Telemetry">): void {
  const { epoch, role, nodeId, master, telemetry, telemetryDue } = turn.member;
  if (!epoch || compareEpochs(epoch, message.epoch) !== 0) return dropMessage(turn);
  if (role === "master") {
    const theirs = ofSources(message, (source) => source === from);
    return update(turn, {
      telemetry: withValues(telemetry, theirs),
      telemetryDue: withDue(telemetryDue, theirs),
    });
  }
  if (from !== master) return dropMessage(turn);
  const others = ofSources(message, (source) => source !== nodeId);
  update(turn, { telemetry: withValues(telemetry, others) });
}

/** The values of nodes, and of links that begin at nodes, that are wanted. */
function ofSources(values: Values, isWanted: (source: NodeId) => boolean): Values {
  const ofNode = ([nodeId]: readonly [NodeId, unknown]) => isWanted(nodeId);
  return {
    memory: values.memory.filter(ofNode),
    disk: values.disk.filter(ofNode),
    system: values.system.filter(ofNode),
    links: values.links.filter(([key]) => isWanted(sourceOf(key))),
  };
}

function withValues(telemetry: Telemetry, values: Values): Telemetry {
  return {
    ...telemetry,
    memory: putAll(telemetry.memory, values.memory),
    disk: putAll(telemetry.disk, values.disk),
    system: putAll(telemetry.system, values.system),
    links: putAll(telemetry.links, values.links),
  };
}

function withDue(due: TelemetryDue, values: Values): TelemetryDue {
  return {
    ...due,
    memory: addAll(due.memory, values.memory),
    disk: addAll(due.disk, values.disk),
    system: addAll(due.system, values.system),
    links: addAll(due.links, values.links),
  };
}

/** One copy for all entries, none for no entry: a master gets thousands a second. */
function putAll<K, V>(
  table: ReadonlyMap<K, V>,
  entries: readonly (readonly [K, V])[],
): ReadonlyMap<K, V> {
  if (entries.length === 0) return table;
  const copy = new Map(table);
  for (const [key, value] of entries) copy.set(key, value);
  return copy;
}

function addAll<K>(keys: ReadonlySet<K>, entries: readonly (readonly [K, unknown])[]) {
  if (entries.every(([key]) => keys.has(key))) return keys;
  const copy = new Set(keys);
  for (const [key] of entries) copy.add(key);
  return copy;
}

/** A new master is told all own values, and at once: it may be asked to place by them. */
export function tellNewMaster(turn: Turn): void {
  tellAllAgain(turn);
  const { role, telemetryDue } = turn.member;
  // Who reigns itself waits: what it tells has then those in it who follow it at once.
  if (role === "master") return;
  update(turn, { telemetryDue: { ...telemetryDue, at: turn.context.uptime } });
}

/** All own values are told anew. */
function tellAllAgain(turn: Turn): void {
  const { telemetry, telemetryDue, nodeId } = turn.member;
  const refreshAt = turn.context.uptime + TELEMETRY_REFRESH_MS;
  const own = ofSources(valuesOf(telemetry), (source) => source === nodeId);
  const { told } = NOTHING_DUE;
  update(turn, { telemetryDue: withDue({ ...telemetryDue, told, refreshAt }, own) });
}

/** Latest values of nodes and of ways that are no longer there are of no use. */
function forgetGone(turn: Turn): void {
  const { telemetry, state, nodeId } = turn.member;
  const isHere = (id: NodeId) => id === nodeId || state.nodes.has(id);
  const ofHere = <V>(table: ReadonlyMap<NodeId, V>) =>
    new Map([...table].filter(([id]) => isHere(id)));
  update(turn, {
    telemetry: {
      memory: ofHere(telemetry.memory),
      disk: ofHere(telemetry.disk),
      system: ofHere(telemetry.system),
      links: new Map([...telemetry.links].filter(([key]) => isWay(state, key))),
      lastSeen: ofHere(telemetry.lastSeen),
    },
  });
}

function isWay({ connections }: State, key: string): boolean {
  const [source, sink] = key.split(">") as [NodeId, NodeId];
  return edgesBetween(connections, source, sink)
    .some((edge) => linkKey(source, sink, edge) === key);
}

function sourceOf(linkKey: string): NodeId {
  return linkKey.slice(0, linkKey.indexOf(">")) as NodeId;
}

function valuesOf({ memory, disk, system, links }: LatestValues): Values {
  return { memory: [...memory], disk: [...disk], system: [...system], links: [...links] };
}

/** A follower that is new hears all latest values: with all others where all of them are new. */
export function tellFollower(turn: Turn, to: NodeId): void {
  const { telemetry, telemetryDue } = turn.member;
  const { epoch, since } = reignOf(turn.member);
  const values = valuesOf(telemetry);
  if (turn.context.uptime >= since + TELEMETRY_TOGETHER_MS) {
    return send(turn, to, messageOf(epoch, values));
  }
  update(turn, { telemetryDue: withDue(telemetryDue, values) });
}

function messageOf(epoch: Epoch, { memory, disk, system, links }: Values): MessageOf<"Telemetry"> {
  return {
    type: "Telemetry",
    epoch,
    memory: memory.slice(0, TELEMETRY_ENTRIES_MAX),
    disk: disk.slice(0, TELEMETRY_ENTRIES_MAX),
    system: system.slice(0, TELEMETRY_ENTRIES_MAX),
    links: links.slice(0, TELEMETRY_ENTRIES_MAX),
  };
}

/** The first `count` of them. */
function firstOf({ memory, disk, system, links }: Values, count: number): Values {
  let left = count;
  const first = <T>(entries: readonly T[]) => {
    const taken = entries.slice(0, left);
    left -= taken.length;
    return taken;
  };
  return { memory: first(memory), disk: first(disk), system: first(system), links: first(links) };
}

/** What is left of them without those, which are the first. */
function restOf({ memory, disk, system, links }: Values, first: Values): Values {
  return {
    memory: memory.slice(first.memory.length),
    disk: disk.slice(first.disk.length),
    system: system.slice(first.system.length),
    links: links.slice(first.links.length),
  };
}

/** Tells what is news, once a second. */
export function settleTelemetry(turn: Turn): void {
  const { uptime } = turn.context;
  if (uptime >= turn.member.telemetryDue.refreshAt) {
    forgetGone(turn);
    tellAllAgain(turn);
  }
  const { nodeId, epoch, role, master, telemetry, telemetryDue } = turn.member;
  if (!epoch || !master || !isDue(telemetryDue) || uptime < telemetryDue.at) return;
  const due = dueValues(telemetry, telemetryDue);
  const values = firstOf(due, TELEMETRY_TOLD_MAX);
  const own = ofSources(values, (source) => source === nodeId);
  if (role === "master") broadcast(turn, messageOf(epoch, values));
  else send(turn, master, messageOf(epoch, own));
  const left = withDue({ ...telemetryDue, ...NOTHING_DUE }, restOf(due, values));
  const at = uptime + (isDue(left) ? TELEMETRY_GAP_MS : TELEMETRY_MS);
  update(turn, { telemetryDue: { ...left, told: withTold(telemetryDue.told, own), at } });
}

function dueValues(telemetry: Telemetry, due: TelemetryDue): Values {
  return {
    memory: [...telemetry.memory].filter(([id]) => due.memory.has(id)),
    disk: [...telemetry.disk].filter(([id]) => due.disk.has(id)),
    system: [...telemetry.system].filter(([id]) => due.system.has(id)),
    links: [...telemetry.links].filter(([key]) => due.links.has(key)),
  };
}

function withTold(told: LatestValues, values: Values): LatestValues {
  return {
    memory: putAll(told.memory, values.memory),
    disk: putAll(told.disk, values.disk),
    system: putAll(told.system, values.system),
    links: putAll(told.links, values.links),
  };
}

function isDue({ memory, disk, system, links }: TelemetryDue): boolean {
  return memory.size + disk.size + system.size + links.size > 0;
}

/** When latest values have to be told. */
export function telemetryWakeAt(member: Member): Millis[] {
  return isDue(member.telemetryDue) && member.master ? [member.telemetryDue.at] : [];
}

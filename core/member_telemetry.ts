/** Latest values of all nodes: to the master, and from it to all (design D3). */
import type { NodeId } from "./ids.ts";
import { compareEpochs, type Epoch } from "./lineage.ts";
import {
  broadcast,
  dropMessage,
  type Input,
  type Member,
  send,
  type Turn,
  update,
} from "./member_state.ts";
import { type MessageOf, NODES_MAX, TELEMETRY_ENTRIES_MAX } from "./protocol.ts";
import { put } from "./state.ts";
import type { LinkQuality, NodeMemory } from "./telemetry.ts";
import type { Millis } from "./units.ts";

/** How often latest values are told while they change. */
export const TELEMETRY_MS = 1_000;

/** How often all own values are told again, and those of nodes that are gone are forgotten. */
export const TELEMETRY_REFRESH_MS = 30_000;

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

/** This node's own latest values. */
export function telemetryMeasured(
  turn: Turn,
  { memory, links }: Extract<Input, { type: "Telemetry" }>,
): void {
  const { nodeId } = turn.member;
  changed(turn, memory ? [[nodeId, memory]] : [], [...links ?? []]);
}

/** Latest values of another node, or, from the master, of all. */
export function telemetryHeard(turn: Turn, from: NodeId, message: MessageOf<"Telemetry">): void {
  const { epoch, role, nodeId, master } = turn.member;
  if (!epoch || compareEpochs(epoch, message.epoch) !== 0) return dropMessage(turn);
  if (role === "master") {
    const memory = message.memory.filter(([id]) => id === from);
    return changed(turn, memory, message.links.filter(([key]) => sourceOf(key) === from));
  }
  if (from !== master) return dropMessage(turn);
  const { telemetry } = turn.member;
  const others = message.memory.filter(([id]) => id !== nodeId);
  const links = message.links.filter(([key]) => sourceOf(key) !== nodeId);
  update(turn, {
    telemetry: {
      ...telemetry,
      memory: putAll(telemetry.memory, others),
      links: putAll(telemetry.links, links),
    },
  });
}

function changed(
  turn: Turn,
  memory: readonly (readonly [NodeId, NodeMemory])[],
  links: readonly (readonly [string, LinkQuality])[],
): void {
  const { telemetry, telemetryDue } = turn.member;
  update(turn, {
    telemetry: {
      ...telemetry,
      memory: putAll(telemetry.memory, memory),
      links: putAll(telemetry.links, links),
    },
    telemetryDue: {
      ...telemetryDue,
      memory: addAll(telemetryDue.memory, memory),
      links: addAll(telemetryDue.links, links),
    },
  });
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

/** After a change of the master all own values are told anew. */
export function tellAllAgain(turn: Turn): void {
  const { telemetry, telemetryDue, nodeId } = turn.member;
  const refreshAt = turn.context.uptime + TELEMETRY_REFRESH_MS;
  const links = [...telemetry.links.keys()].filter((key) => sourceOf(key) === nodeId);
  update(turn, {
    telemetryDue: {
      ...telemetryDue,
      memory: new Set(telemetry.memory.has(nodeId) ? [nodeId] : []),
      links: new Set(links),
      refreshAt,
    },
  });
}

/** Latest values of nodes that are no longer there are of no use. */
function forgetGone(turn: Turn): void {
  const { telemetry, state, nodeId } = turn.member;
  const isHere = (id: string) => id === nodeId || state.nodes.has(id as NodeId);
  const memory = new Map([...telemetry.memory].filter(([id]) => isHere(id)));
  const lastSeen = new Map([...telemetry.lastSeen].filter(([id]) => isHere(id)));
  const links = new Map([...telemetry.links].filter(([key]) => isHere(sourceOf(key))));
  update(turn, { telemetry: { memory, lastSeen, links } });
}

function sourceOf(linkKey: string): string {
  return linkKey.slice(0, linkKey.indexOf(">"));
}

/** All latest values, for a follower that is new. */
export function allTelemetry({ telemetry }: Member, epoch: Epoch): MessageOf<"Telemetry"> {
  const memory = [...telemetry.memory].slice(0, TELEMETRY_ENTRIES_MAX);
  const links = [...telemetry.links].slice(0, TELEMETRY_ENTRIES_MAX);
  return { type: "Telemetry", epoch, memory, links };
}

/** Tells what has changed, once a second. */
export function settleTelemetry(turn: Turn): void {
  const { uptime } = turn.context;
  if (uptime >= turn.member.telemetryDue.refreshAt) {
    forgetGone(turn);
    tellAllAgain(turn);
  }
  const { epoch, role, master, telemetry, telemetryDue } = turn.member;
  if (!epoch || !master || !isDue(turn.member) || uptime < telemetryDue.at) return;
  const memory = [...telemetry.memory].filter(([id]) => telemetryDue.memory.has(id));
  const links = [...telemetry.links].filter(([key]) => telemetryDue.links.has(key));
  const message = {
    type: "Telemetry" as const,
    epoch,
    memory: memory.slice(0, TELEMETRY_ENTRIES_MAX),
    links: links.slice(0, TELEMETRY_ENTRIES_MAX),
  };
  if (role === "master") broadcast(turn, message);
  else send(turn, master, message);
  update(turn, {
    telemetryDue: {
      ...telemetryDue,
      memory: new Set(),
      links: new Set(),
      at: uptime + TELEMETRY_MS,
    },
  });
}

function isDue({ telemetryDue }: Member): boolean {
  return telemetryDue.memory.size > 0 || telemetryDue.links.size > 0;
}

/** When latest values have to be told. */
export function telemetryWakeAt(member: Member): Millis[] {
  return isDue(member) && member.master ? [member.telemetryDue.at] : [];
}

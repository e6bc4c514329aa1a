import type { StateView } from "../../api/client_state.ts";

/** Tables of `GET /state` that are no part of the log: each node hears of them when it does. */
const LATEST: ReadonlySet<string> = new Set([
  ...["instanceStats", "nodeMemory", "nodeDisk", "nodeSystem", "lastSeen"],
]);

/** Fields of an edge and of a download that are measured, likewise. */
const MEASURED: ReadonlySet<string> = new Set([
  ...["latencyMs", "bandwidthBitsPerSecond", "downloadProgress", "downloaded"],
]);

/** What all nodes have to agree on, as text: who is master, and all that the log says. */
export function loggedState(state: StateView): string {
  const tables = Object.entries(state).filter(([table]) => !LATEST.has(table));
  return JSON.stringify(Object.fromEntries(tables), (field, value) => {
    if (MEASURED.has(field)) return undefined;
    return isTable(value) ? Object.fromEntries(Object.entries(value).toSorted(byKey)) : value;
  });
}

function isTable(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const byKey = ([a]: [string, unknown], [b]: [string, unknown]) => a < b ? -1 : a > b ? 1 : 0;

/** Requests that are inside an engine at the same time: how it comes about, and how it is seen. */
import assert from "node:assert/strict";
import { z } from "zod";
import { Span } from "../../core/trace.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually } from "../support/eventually.ts";

/** A stretch of time on an engine's clock, in microseconds. */
export interface Stretch {
  readonly startUs: number;
  readonly durationUs: number;
}

/** Time that all stretches have in common; 0 or less where one ends before another begins. */
export function sharedUs(stretches: readonly Stretch[]): number {
  const starts = stretches.map(({ startUs }) => startUs);
  const ends = stretches.map(({ startUs, durationUs }) => startUs + durationUs);
  return Math.min(...ends) - Math.max(...starts);
}

/**
 * Asks `count` requests at once of the only instance, on nodes that obey orders and trace tasks, and
 * asserts that each began to decode before any ended. The engine takes no step until it has all of
 * them, and its own clock tells the rest: however late a busy client asks or reads, it is so.
 * @returns what `ask` gives, and for how long all decoded, in milliseconds.
 */
export async function askTogether<T>(
  nodes: readonly ClusterNode[],
  count: number,
  ask: () => Promise<T>,
): Promise<{ answers: T; sharedMs: number }> {
  const tasks = async () => Object.keys((await nodes[0]?.client.state())?.tasks ?? {});
  await eventually("tasks from before are over", async () => (await tasks()).length === 0);
  // Which node has the first rank, which alone obeys these, is up to the master.
  for (const { orders } of nodes) await orders.gather(count);
  // At its first token it stays until we know what to look for among the traces.
  for (const { orders } of nodes) await orders.hold("decode");
  const inside = async () => {
    try {
      let ids: string[] = [];
      await eventually(`${count} requests are inside, and none is over`, async () => {
        const areHeld = await Promise.all(nodes.map(({ orders }) => orders.isHeld()));
        ids = await tasks();
        return areHeld.includes(true) && ids.length === count;
      });
      return ids;
    } finally {
      for (const { orders } of nodes) await orders.release();
    }
  };
  const [answers, ids] = await Promise.all([ask(), inside()]);
  const decodes: Stretch[] = [];
  for (const id of ids) decodes.push(await decodeOf(nodes, id));
  const sharedMs = sharedUs(decodes) / 1_000;
  assert.ok(sharedMs > 0, `a request ended ${-sharedMs} ms before another began to decode`);
  return { answers, sharedMs };
}

const Trace = z.object({ traces: z.array(Span) });

/** When a task decoded, once one of the nodes has kept its trace. */
async function decodeOf(nodes: readonly ClusterNode[], taskId: string): Promise<Span> {
  let decode: Span | undefined;
  await eventually(`the trace of ${taskId} is kept`, async () => {
    for (const { client } of nodes) {
      const response = await fetch(`${client.url}/v1/traces/${taskId}`);
      const body = await response.json();
      if (!response.ok) continue;
      decode = Trace.parse(body).traces.find(({ category }) => category === "decode");
    }
    return decode !== undefined;
  });
  assert.ok(decode);
  return decode;
}

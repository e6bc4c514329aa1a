/** What an instance over several nodes has while it lives, and must not leave. */
import assert from "node:assert/strict";
import { z } from "zod";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually } from "../support/eventually.ts";
import { localPorts, portsOfMachine } from "../support/tcp_sockets.ts";

/** Where the ranks of the instances meet; other nodes know only their neighbours' ports. */
const Hosts = z.object({
  hostsByNode: z.record(z.string(), z.array(z.object({ port: z.number() }))),
});

/** The ports at which ranks of the instances of the cluster meet. */
export async function ringPorts(node: ClusterNode): Promise<number[]> {
  const instances = Object.values((await node.state()).instances).flatMap(Object.values);
  const tables = instances.map((instance) => Hosts.parse(instance).hostsByNode);
  return tables.flatMap(Object.values).flat().map(({ port }) => port).filter((port) => port > 1);
}

/** Each rank that has met the others has a connection at its port: these are the right ones. */
export async function requirePortsInUse(
  nodes: readonly ClusterNode[],
  ports: readonly number[],
): Promise<void> {
  for (const node of nodes) {
    const used = await localPorts(await node.processes());
    assert.ok(
      ports.some((port) => used.includes(port)),
      `node ${node.index} uses none of ${ports}`,
    );
  }
}

/**
 * Resolves once nothing lives of all that nodes have ever started but they, and nobody at all has
 * these ports on the machines of the nodes.
 */
export async function untilNothingIsLeft(
  nodes: readonly ClusterNode[],
  { ports, patienceMs }: { readonly ports: readonly number[]; readonly patienceMs: number },
): Promise<void> {
  let left: number[] = [];
  await eventually("nothing is left but nodes", async () => {
    const all = (await Promise.all(nodes.map((node) => node.processes()))).flat();
    left = all.filter((pid) => !nodes.some(({ process }) => process.pid === pid));
    return left.length === 0;
  }, patienceMs).catch((cause) => assert.fail(`${cause.message}: processes ${left}`));
  let taken: number[] = [];
  await eventually("nobody has the ports where ranks met", async () => {
    const used = await Promise.all(nodes.map(({ process }) => portsOfMachine(process.pid)));
    taken = ports.filter((port) => used.flat().includes(port));
    return taken.length === 0;
  }, patienceMs).catch((cause) => assert.fail(`${cause.message}: ports ${taken}`));
}

import assert from "node:assert/strict";
import { Instance } from "../../core/instance.ts";
import {
  type PortRange,
  portsInUse,
  portsOfRetry,
  rankPorts,
  withPorts,
} from "../../core/ports.ts";
import { A, B, C, created, fold, instanceOf } from "../support/fixtures.ts";

/** A ring of nodes at these addresses, all of it at `port`. */
function ringOf(
  id: string,
  ips: readonly string[],
  { port = 50_000, portRange }: { port?: number; portRange?: PortRange } = {},
): Instance {
  const nodes = [A, B, C].slice(0, ips.length);
  const own = ips.map((ip, rank) => ({ ip, port: ips.indexOf(ip) === rank ? port : port + rank }));
  const hostsByNode = Object.fromEntries(nodes.map((nodeId) => [nodeId, own]));
  const ring = { hostsByNode, ephemeralPort: port, ...(portRange ? { portRange } : {}) };
  return Instance.parse({ ...instanceOf(id, nodes), ...ring });
}

function jacclOf(id: string): Instance {
  const { hostsByNode: _, ...common } = instanceOf(id, [A, B]) as Instance & {
    hostsByNode: object;
  };
  return Instance.parse({
    ...common,
    type: "MlxJacclInstance",
    jacclDevices: [[null, "rdma_en2"], ["rdma_en3", null]],
    jacclCoordinators: { [A]: "10.0.0.1:50000", [B]: "[fd00::1]:50000" },
  });
}

const stateOf = (...instances: Instance[]) => fold(instances.map(created));

Deno.test("ranks listen at one port, those of one address at ports of their own", () => {
  const options = { seed: "i", used: new Set<number>(), range: { from: 50_000, to: 50_009 } };
  const [apart] = [rankPorts(["10.0.0.1", "10.0.0.2", "10.0.0.3"], options)];
  assert.equal(new Set(apart).size, 1);
  const together = rankPorts(["127.0.0.1", "127.0.0.1", "127.0.0.1"], options);
  assert.equal(new Set(together).size, 3);
  assert.deepEqual(rankPorts(["127.0.0.1", "127.0.0.1", "127.0.0.1"], options), together);
});

Deno.test("a retry takes ports that neither it nor any other instance has", () => {
  const instance = ringOf("i", ["127.0.0.1", "127.0.0.1"]);
  const state = stateOf(instance, ringOf("j", ["127.0.0.1", "127.0.0.1"], { port: 50_010 }));
  const used = portsInUse(state);
  const seen = new Set<number>();
  for (let attempts = 1; attempts <= 5; attempts++) {
    const ports = portsOfRetry(state, instance, attempts) ?? [];
    assert.equal(new Set(ports).size, 2);
    for (const port of ports) {
      assert.ok(!used.has(port), `${port} is in use`);
      seen.add(port);
    }
  }
  assert.ok(seen.size > 4, "not the same two in turn: a stranger may have them");
});

Deno.test("a retry stays in the range that was said, and has its own ports again at worst", () => {
  const portRange = { from: 50_000, to: 50_002 };
  const instance = ringOf("i", ["127.0.0.1", "127.0.0.1"], { portRange });
  assert.deepEqual(portsOfRetry(stateOf(instance), instance, 1)?.[0], 50_002);
  const other = ringOf("j", ["127.0.0.1"], { port: 50_002 });
  const ports = portsOfRetry(stateOf(instance, other), instance, 1) ?? [];
  assert.deepEqual(ports.toSorted(), [50_000, 50_001], "never those of another instance");
});

Deno.test("a retry of one rank has no ports, one of RDMA has its coordinator's", () => {
  const single = instanceOf("i");
  assert.equal(portsOfRetry(stateOf(single), single, 1), undefined);
  assert.equal(withPorts(single, []), single);
  const jaccl = jacclOf("i");
  const [port, ...more] = portsOfRetry(stateOf(jaccl), jaccl, 1) ?? [];
  assert.ok(port !== undefined && port !== 50_000 && more.length === 0);
  const moved = withPorts(jaccl, [port]);
  assert.ok(moved.type === "MlxJacclInstance");
  assert.deepEqual(moved.jacclCoordinators, {
    [A]: `10.0.0.1:${port}`,
    [B]: `[fd00::1]:${port}`,
  });
});

Deno.test("other ports are told to all ranks, and placeholders stay what they are", () => {
  const placeholder = { ip: "198.51.100.1", port: 0 };
  const ring = ringOf("i", ["127.0.0.1", "127.0.0.1", "127.0.0.1"]);
  assert.ok(ring.type === "MlxRingInstance");
  const [first, second] = ring.hostsByNode[A] ?? [];
  assert.ok(first && second);
  const seen = { ...ring, hostsByNode: { ...ring.hostsByNode, [A]: [first, second, placeholder] } };
  const moved = withPorts(seen, [50_100, 50_101, 50_102]);
  assert.ok(moved.type === "MlxRingInstance");
  const portsOf = (nodeId: typeof A) => moved.hostsByNode[nodeId]?.map(({ port }) => port);
  assert.deepEqual(portsOf(A), [50_100, 50_101, 0]);
  assert.deepEqual(portsOf(B), [50_100, 50_101, 50_102]);
  assert.equal(moved.ephemeralPort, 50_100);
  assert.deepEqual(moved.hostsByNode[A]?.[2], placeholder);
  const fewer = withPorts(ring, [50_100]);
  assert.ok(fewer.type === "MlxRingInstance");
  assert.deepEqual(fewer.hostsByNode[A]?.map(({ port }) => port), [50_100, 50_001, 50_002]);
});

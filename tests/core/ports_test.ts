import assert from "node:assert/strict";
import fc from "fast-check";
import { Instance } from "../../core/instance.ts";
import {
  freePortCount,
  type PortRange,
  portsInUse,
  portsNeeded,
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

/** Likewise with RDMA; without addresses nobody has said where frames go round. */
function jacclOf(id: string, ips: readonly string[] = []): Instance {
  const { hostsByNode } = ringOf(id, ips);
  return Instance.parse({
    ...instanceOf(id, [A, B]),
    type: "MlxJacclInstance",
    hostsByNode,
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

Deno.test("ranks of one address never share a port, and none is anybody else's: rather there are none", () => {
  const hosts = fc.array(fc.constantFrom("127.0.0.1", "10.0.0.1", "10.0.0.2"), { maxLength: 8 });
  const range = fc.record({ from: fc.integer({ min: 1_024, max: 1_030 }), size: fc.nat(9) })
    .map(({ from, size }) => ({ from, to: from + size }));
  const used = fc.uniqueArray(fc.integer({ min: 1_020, max: 1_040 })).map((all) => new Set(all));
  fc.assert(fc.property(hosts, range, used, fc.string(), (ips, range, used, seed) => {
    const ports = rankPorts(ips, { seed, used, range });
    assert.deepEqual(rankPorts(ips, { seed, used, range }), ports);
    const isPossible = freePortCount(range, used) >= portsNeeded(ips);
    assert.equal(ports !== undefined, isPossible);
    if (!ports) return;
    assert.equal(ports.length, ips.length);
    assert.equal(new Set(ports.map((port, rank) => `${ips[rank]}:${port}`)).size, ips.length);
    assert.ok(ports.every((port) => port >= range.from && port <= range.to && !used.has(port)));
  }));
});

Deno.test("a retry whose ranks share a host never gives two of them one port", () => {
  const size = fc.integer({ min: 1, max: 3 });
  const spare = fc.nat(4);
  const others = fc.uniqueArray(fc.integer({ min: 50_000, max: 50_006 }), { maxLength: 3 });
  fc.assert(fc.property(size, spare, others, fc.nat(9), (size, spare, others, attempts) => {
    const portRange = { from: 50_000, to: 50_000 + size - 1 + spare };
    const instance = ringOf("i", Array(size).fill("127.0.0.1"), { portRange });
    const state = stateOf(instance, ...others.map((port) => ringOf(`${port}`, ["x"], { port })));
    const ports = portsOfRetry(state, instance, attempts);
    const left = freePortCount(portRange, new Set(others));
    assert.equal(ports !== undefined, left >= size);
    if (!ports) return;
    assert.equal(new Set(ports).size, size);
    assert.ok(ports.every((port) => port <= portRange.to && !others.includes(port)));
    const fresh = ports.filter((port) => port >= 50_000 + size).length;
    const news = freePortCount({ from: 50_000 + size, to: portRange.to }, new Set(others));
    const isNews = portRange.to >= 50_000 + size ? Math.min(size, news) : 0;
    assert.equal(fresh, isNews, "others than it has, as far as there are");
  }));
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

Deno.test("a retry of one rank has no ports", () => {
  const single = instanceOf("i");
  assert.equal(portsOfRetry(stateOf(single), single, 1), undefined);
  assert.equal(withPorts(single, []), single);
});

Deno.test("a retry of RDMA has ports for its ring, and another one for its coordinator", () => {
  const jaccl = jacclOf("i", ["10.0.0.1", "10.0.0.2"]);
  const ports = portsOfRetry(stateOf(jaccl), jaccl, 1) ?? [];
  const [first, second, coordinator, ...more] = ports;
  assert.ok(first !== undefined && first === second && first !== coordinator);
  assert.ok(!ports.includes(50_000) && more.length === 0);
  const moved = withPorts(jaccl, ports);
  assert.ok(moved.type === "MlxJacclInstance");
  assert.deepEqual(moved.hostsByNode[B]?.map(({ port }) => port), [first, first]);
  assert.match(moved.jacclCoordinators[A] ?? "", new RegExp(`^10.0.0.1:${coordinator}$`));
  const used = portsInUse(stateOf(moved));
  for (const port of ports) assert.ok(used.has(port));
});

Deno.test("a retry of RDMA that has no ring has its coordinator's port alone", () => {
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

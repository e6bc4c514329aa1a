import assert from "node:assert/strict";
import { LINK_SILENCE_MS } from "../../net/transport.ts";
import { FakeHosts, type FakeNode } from "../support/fake_host.ts";
import { FakeTime } from "../support/fake_time.ts";

const AT = {
  a: "/ip4/10.0.0.1/tcp/1",
  b: "/ip4/10.0.0.2/tcp/1",
  c: "/ip4/10.0.0.3/tcp/1",
  d: "/ip4/10.0.0.4/tcp/1",
};

/** Both linked to each other by one that knows the other's address. */
async function twoNodes(time: FakeTime) {
  const hosts = new FakeHosts();
  const a = hosts.add("a", AT.a);
  const b = hosts.add("b", AT.b, { bootstrap: [AT.a] });
  await a.links.start();
  await b.links.start();
  await time.pass(1_000);
  return { hosts, a, b };
}

/** The peers and proven ways of a node. */
function view({ links }: FakeNode) {
  return [[...links.peers()].toSorted(), links.links().map(({ address }) => address).toSorted()];
}

function stop(...nodes: readonly FakeNode[]): void {
  for (const { links } of nodes) links.stop();
}

Deno.test("two nodes of which one knows the other are linked both ways at once", async () => {
  using time = new FakeTime();
  const { a, b } = await twoNodes(time);
  assert.deepEqual(view(a), [["b"], [AT.b]]);
  assert.deepEqual(view(b), [["a"], [AT.a]]);
  assert.deepEqual([a.heard, b.heard], [["+b"], ["+a"]]);
  assert.equal(a.openCount, 2, "one connection each way");
  stop(a, b);
  assert.deepEqual([a.heard, b.heard], [["+b", "-b"], ["+a", "-a"]]);
  assert.equal(time.armedCount, 0);
});

Deno.test("by one address of one node four come to know each other, and speak directly", async () => {
  using time = new FakeTime();
  const hosts = new FakeHosts();
  const ids = ["a", "b", "c", "d"] as const;
  const nodes = ids.map((id) => hosts.add(id, AT[id], id === "a" ? {} : { bootstrap: [AT.a] }));
  for (const { links } of nodes) await links.start();
  await time.pass(2_000);
  for (const node of nodes) {
    const others = ids.filter((id) => id !== node.id);
    assert.deepEqual(view(node), [others, others.map((id) => AT[id])]);
    assert.equal(node.links.mesh()?.length, 3);
    assert.equal(node.openCount, 6);
  }
  const dialled = hosts.dials.length;
  await time.pass(60_000);
  assert.equal(hosts.dials.length, dialled, "all that is there is linked");
  stop(...nodes);
});

Deno.test("a link stands though only one end speaks", async () => {
  using time = new FakeTime();
  const hosts = new FakeHosts();
  const a = hosts.add("a", AT.a, { addresses: () => [] });
  const b = hosts.add("b", AT.b, { bootstrap: [AT.a] });
  hosts.move(AT.b, undefined);
  await a.links.start();
  await b.links.start();
  await time.pass(500);
  for (let said = 0; said < 60; said++) {
    a.links.best(b.id)?.stream.publish("t", new Uint8Array());
    await time.pass(500);
  }
  assert.deepEqual([a.heard, b.heard], [["+b"], ["+a"]]);
  assert.equal(b.messages.length, 60);
  stop(a, b);
});

Deno.test("a peer that says nothing any more is gone after a while, not before", async () => {
  using time = new FakeTime();
  const { hosts, a, b } = await twoNodes(time);
  hosts.move(AT.a, undefined);
  hosts.move(AT.b, undefined);
  for (const { streams } of a.connections) for (const one of streams) one.deliver = () => {};
  await time.pass(LINK_SILENCE_MS - 1_500);
  assert.deepEqual(a.heard, ["+b"]);
  await time.pass(2_000);
  assert.deepEqual(a.heard, ["+b", "-b"]);
  assert.deepEqual(view(a), [[], []]);
  assert.equal(a.openCount, 0);
  stop(a, b);
});

Deno.test("a peer whose connections die is gone at once, said once, and back within 2 s", async () => {
  using time = new FakeTime();
  const { hosts, a, b } = await twoNodes(time);
  hosts.move(AT.a, undefined);
  hosts.move(AT.b, undefined);
  for (const one of a.connections) one.abort();
  assert.deepEqual([a.heard, b.heard], [["+b", "-b"], ["+a", "-a"]]);
  await time.pass(60_000);
  hosts.move(AT.a, a);
  hosts.move(AT.b, b);
  await time.pass(2_000);
  assert.deepEqual([view(a), view(b)], [[["b"], [AT.b]], [["a"], [AT.a]]]);
  assert.equal(a.openCount, 2);
  stop(a, b);
});

Deno.test("while this process itself does not run nobody is given up", async () => {
  using time = new FakeTime();
  const { a, b } = await twoNodes(time);
  await time.pass(250 - time.now % 250);
  const before = performance.now;
  performance.now = () => time.now + 60_000;
  await time.pass(2_000);
  assert.deepEqual([a.heard, b.heard], [["+b"], ["+a"]]);
  performance.now = before;
  stop(a, b);
});

Deno.test("a new node at the address of one that is gone gets one link, not one a moment", async () => {
  using time = new FakeTime();
  const { hosts, a, b } = await twoNodes(time);
  b.links.stop();
  const c = hosts.add("c", AT.b, { bootstrap: [AT.a] });
  await c.links.start();
  await time.pass(60_000);
  assert.deepEqual(view(a), [["c"], [AT.b]]);
  assert.equal(a.openCount, 2);
  stop(a, c);
});

Deno.test("a node that starts again at another port is linked there", async () => {
  using time = new FakeTime();
  const { hosts, a, b } = await twoNodes(time);
  b.links.stop();
  hosts.move(AT.b, undefined);
  const again = hosts.add("b", "/ip4/10.0.0.2/tcp/2", { bootstrap: [AT.a] });
  await again.links.start();
  await time.pass(1_000);
  assert.deepEqual(view(a), [["b"], ["/ip4/10.0.0.2/tcp/2"]]);
  const dialled = hosts.dials.length;
  await time.pass(30_000);
  assert.equal(hosts.dials.length, dialled, "where it was nobody looks any more");
  stop(a, again);
});

Deno.test("a node of this host is linked by loopback, and its outer address left alone", async () => {
  using time = new FakeTime();
  const hosts = new FakeHosts();
  const inside = "/ip4/127.0.0.1/tcp/1";
  const a = hosts.add("a", AT.a, { hostId: "h", addresses: () => [AT.a, inside] });
  hosts.move(inside, a);
  const b = hosts.add("b", AT.b, { hostId: "h", bootstrap: [AT.a] });
  await a.links.start();
  await b.links.start();
  await time.pass(3_000);
  assert.deepEqual(view(b), [["a"], [inside]]);
  const dialled = hosts.dials.length;
  await time.pass(60_000);
  assert.equal(hosts.dials.length, dialled, "a bootstrap address is needed by who knows nobody");
  stop(a, b);
});

Deno.test("a bootstrap address is tried for ever, less and less often", async () => {
  using time = new FakeTime();
  const hosts = new FakeHosts();
  const a = hosts.add("a", AT.a, { bootstrap: [AT.a, AT.b] });
  await a.links.start();
  await time.pass(600_000);
  const [own, other] = [AT.a, AT.b].map((at) => hosts.dials.filter((one) => one === at).length);
  assert.equal(own, other, "its own address is one where nobody is");
  assert.ok(other && other >= 40 && other <= 50, `${other}`);
  assert.equal(a.openCount, 0);
  const b = hosts.add("b", AT.b);
  await b.links.start();
  await time.pass(15_000);
  assert.deepEqual([...a.links.peers()], ["b"]);
  stop(a, b);
});

Deno.test("a node that hangs up at once is tried again, less and less often", async () => {
  using time = new FakeTime();
  const hosts = new FakeHosts();
  const a = hosts.add("a", AT.a);
  const b = hosts.add("b", AT.b, { bootstrap: [AT.a] });
  await a.links.start();
  a.links.stop();
  await b.links.start();
  b.links.learn(a.id, [AT.a]);
  await time.pass(60_000);
  assert.ok(hosts.dials.length > 4 && hosts.dials.length < 80, `${hosts.dials.length} dials`);
  assert.deepEqual(b.heard, []);
  const again = hosts.add("a", AT.a);
  await again.links.start();
  await time.pass(15_000);
  assert.deepEqual(view(b), [["a"], [AT.a]]);
  stop(again, b);
});

Deno.test("another address of this host is told to all, and dialled by them", async () => {
  using time = new FakeTime();
  const hosts = new FakeHosts();
  let addresses = [AT.a];
  const a = hosts.add("a", AT.a, { addresses: () => addresses });
  hosts.move(AT.c, a);
  const b = hosts.add("b", AT.b, { bootstrap: [AT.a] });
  await a.links.start();
  await b.links.start();
  await time.pass(1_000);
  addresses = [AT.a, AT.c];
  await time.pass(1_000);
  assert.deepEqual(view(b), [["a"], [AT.a, AT.c]]);
  stop(a, b);
});

Deno.test("what is told of peers fits into a frame, whatever they call their addresses", async () => {
  using time = new FakeTime();
  const hosts = new FakeHosts();
  const a = hosts.add("a", AT.a);
  await a.links.start();
  const long = Array.from({ length: 4 }, (_, at) => `/dns4/${"x".repeat(240)}${at}/tcp/1`);
  const many = Array.from({ length: 128 }, (_, at) => {
    const own = `/ip4/10.1.0.${at}/tcp/1`;
    return hosts.add(`node${at}`, own, { addresses: () => long, bootstrap: [AT.a] });
  });
  for (const { links } of many) await links.start();
  await time.pass(3_000);
  assert.equal(a.links.peers().size, 128);
  assert.equal(a.heard.length, 128, "nobody went");
  assert.equal(a.links.mesh(), undefined);
  stop(a, ...many);
});

Deno.test("a dial that is under way when the node stops leaves nothing", async () => {
  using time = new FakeTime();
  const hosts = new FakeHosts();
  const a = hosts.add("a", AT.a);
  const b = hosts.add("b", AT.b, { bootstrap: [AT.a] });
  await a.links.start();
  const started = b.links.start();
  b.links.stop();
  await started;
  b.links.stop();
  await time.pass(1_000);
  assert.deepEqual([a.heard, b.heard], [[], []]);
  assert.equal(b.openCount, 0);
  stop(a);
});

/** Nodes of go-libp2p beside ours: what is on the wire is libp2p, and not what js-libp2p takes it for. */
import assert from "node:assert/strict";
import { newIdentity, nodeIdOf } from "../../net/identity.ts";
import { connectLibp2p } from "../../net/libp2p.ts";
import { startHost } from "../../net/libp2p_host.ts";
import { silentLogger } from "../../net/libp2p_logger.ts";
import type { Transport } from "../../net/transport.ts";
import { eventually } from "../support/eventually.ts";
import { buildGoNode, GoNode, type Said } from "./go_node.ts";

const built = await buildGoNode();
const path = "path" in built ? built.path : "";

/** A test that says what it needs where it cannot run. */
function goTest(name: string, run: () => Promise<void>): void {
  const needs = "missing" in built ? ` (${built.missing})` : "";
  Deno.test({ name: name + needs, ignore: "missing" in built, fn: run });
}

type Of<T extends Said["type"]> = Extract<Said, { type: T }>;

const isIdentified = (said: Said): said is Of<"Identified"> => said.type === "Identified";

const bytesOf = (text: string) => new TextEncoder().encode(text);

/** One of our nodes in a namespace that no other test has. */
async function ours(privateNetworkKey?: Uint8Array) {
  const namespace: string = crypto.randomUUID();
  const identityKey = await newIdentity();
  const options = { identityKey, namespace, port: 0, bootstrap: [], privateNetworkKey };
  const transport = await connectLibp2p(options);
  const address = transport.addresses().find((one) => one.includes("/127.0.0.1/")) ?? "";
  const topicOf = (name: string, space = namespace) => `exo/${space}/${name}`;
  return { namespace, transport, address, topicOf };
}

/** What our node hears on a topic, with who says it. */
function heardBy(transport: Transport, topic: string): { from: string; text: string }[] {
  const heard: { from: string; text: string }[] = [];
  transport.subscribe(topic, (message, from) => {
    heard.push({ from, text: new TextDecoder().decode(message) });
  });
  return heard;
}

/** Publishes until both have heard of each other: a mesh takes a heartbeat to form. */
async function talk(transport: Transport, topic: string, go: GoNode): Promise<void> {
  const heard = heardBy(transport, topic);
  const identified = await go.hears("it identifies our node", isIdentified);
  assert.equal(identified?.peer, transport.self);
  await eventually("both have heard", async () => {
    transport.publish(topic, bytesOf("from ours"));
    await go.publish("from Go");
    return heard.length > 0 && go.said.some(({ type }) => type === "Heard");
  });
  assert.deepEqual(heard[0], { from: identified.self, text: "from Go" });
  const theirs = go.said.find(({ type }) => type === "Heard");
  assert.deepEqual(theirs, { type: "Heard", from: transport.self, text: "from ours" });
}

goTest("a Go node and ours tell each other what they are and speak", async () => {
  const identityKey = await newIdentity();
  const { host, port } = await startHost({ identityKey, port: 0, logger: silentLogger() });
  const found = Promise.withResolvers<{ agentVersion?: string; protocols: string[] }>();
  host.addEventListener("peer:identify", ({ detail }) => found.resolve(detail));
  try {
    const address = `/ip4/127.0.0.1/tcp/${port}/p2p/${nodeIdOf(identityKey)}`;
    await using go = new GoNode(path, { address, topic: "t" });
    const said = await go.hears("it identifies our node", isIdentified);
    assert.equal(said?.peer, nodeIdOf(identityKey));
    assert.match(said.agentVersion, /^js-libp2p\/3\./);
    for (const protocol of ["/ipfs/id/1.0.0", "/meshsub/1.1.0"]) {
      assert.ok(said.protocols.includes(protocol), said.protocols.join(" "));
    }
    const { agentVersion, protocols } = await found.promise;
    assert.equal(agentVersion, "exo-interop");
    assert.ok(protocols.includes("/meshsub/1.1.0"), protocols.join(" "));
  } finally {
    await host.stop();
  }
});

goTest("a Go node of a namespace hears its gossip, and is heard as who it is", async () => {
  const { namespace, transport, address, topicOf } = await ours();
  try {
    await using other = new GoNode(path, { address, topic: topicOf("t", "another") });
    await using go = new GoNode(path, { address, topic: topicOf("t") });
    const seen = await go.hears("it identifies our node", isIdentified);
    for (const protocol of ["link", "stream"]) {
      assert.ok(seen?.protocols.includes(`/exo/${namespace}/${protocol}/1`), protocol);
    }
    await other.hears("it identifies our node", isIdentified);
    const everything = heardBy(transport, "t");
    for (let n = 0; n < 10; n++) await other.publish("from another namespace");
    await talk(transport, "t", go);
    // What is said to all has reached whoever it can.
    assert.deepEqual(other.said.map(({ type }) => type), ["Identified"]);
    assert.ok(everything.every(({ text }) => text === "from Go"), JSON.stringify(everything));
    // Whoever has no link is no node of the cluster.
    assert.equal(transport.peers().size, 0);
  } finally {
    await transport.close();
  }
});

goTest("a Go node joins a private network by its key, and nobody does without", async () => {
  const key = crypto.getRandomValues(new Uint8Array(32));
  const { transport, address, topicOf } = await ours(key);
  const topic = topicOf("t");
  try {
    for (const secret of [undefined, "00".repeat(32)]) {
      await using stranger = new GoNode(path, { address, topic, secret });
      assert.equal(await stranger.hears("it gives up", isIdentified), undefined);
      assert.deepEqual(stranger.said, []);
      assert.match(await stranger.complaints, /failed to negotiate security protocol/);
    }
    await using go = new GoNode(path, { address, topic, secret: key.toHex() });
    await talk(transport, "t", go);
  } finally {
    await transport.close();
  }
});

import assert from "node:assert/strict";
import { newIdentity } from "../../net/identity.ts";
import { connectLibp2p } from "../../net/libp2p.ts";
import type { MessageStream, PeerChange, Transport } from "../../net/transport.ts";
import { failsWith, PATIENT, patterned, transportConformance } from "../conformance/transport.ts";
import { eventually } from "../support/eventually.ts";
import { rejects } from "../support/rejects.ts";

/** A transport of a namespace that no other test has. */
async function join(
  namespace: string,
  bootstrap: readonly string[] = [],
  privateNetworkKey: Uint8Array | undefined = undefined,
): Promise<Transport> {
  const identityKey = await newIdentity();
  return await connectLibp2p({ identityKey, namespace, port: 0, bootstrap, privateNetworkKey });
}

/** Where a node listens on loopback, without its id. */
function loopbackOf(node: Transport): string {
  const address = node.addresses().find((one) => one.includes("/127.0.0.1/")) ?? "";
  return address.replace(/\/p2p\/.*/, "");
}

/** Peers to which a node has proven ways. */
function linked(node: Transport): number {
  return new Set(node.links().map(({ peer }) => peer)).size;
}

/** Resolves once a message that `from` publishes reaches `to`. */
async function heard(from: Transport, to: Transport): Promise<void> {
  const topic = `settled by ${from.self}`;
  let isHeard = false;
  const stop = to.subscribe(topic, () => isHeard = true);
  await eventually("the subscription is known", () => {
    from.publish(topic, new Uint8Array());
    return isHeard;
  });
  stop();
}

transportConformance("libp2p", async () => {
  const namespace = crypto.randomUUID();
  const a = await join(namespace);
  const b = await join(namespace, [loopbackOf(a)]);
  await eventually("they are linked", () => a.links().length > 0 && b.links().length > 0);
  return {
    a,
    b,
    settled: async () => {
      await heard(a, b);
      await heard(b, a);
    },
  };
});

Deno.test("a bootstrap address with a name or an id gives no link beside that by the IP address", async () => {
  const namespace = crypto.randomUUID();
  const a = await join(namespace);
  const withId = a.addresses().find((one) => one.includes("/127.0.0.1/")) ?? "";
  const loopback = withId.replace(/\/p2p\/.*/, "");
  const withName = loopback.replace("/ip4/127.0.0.1/", "/dns4/localhost/");
  const b = await join(namespace, [withId, withName]);
  try {
    await eventually("they are linked", () => a.links().length > 0 && b.links().length > 0);
    assert.deepEqual([...new Set(b.links().map(({ address }) => address))], [loopback]);
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
});

Deno.test("by one address of one node four come to know each other; of one that goes all hear", async () => {
  const namespace = crypto.randomUUID();
  const first = await join(namespace);
  const more = await Promise.all([1, 2, 3].map(() => join(namespace, [loopbackOf(first)])));
  const nodes = [first, ...more];
  try {
    await eventually("each is linked with all", () => nodes.every((one) => linked(one) === 3));
    const [gone, ...left] = more as [Transport, Transport, Transport];
    const heard = [first, ...left].map((one) =>
      new Promise<PeerChange>((resolve) => one.onPeer(resolve))
    );
    await gone.close();
    for (const change of await Promise.all(heard)) {
      assert.deepEqual(change, { peer: gone.self, isConnected: false });
    }
  } finally {
    for (const one of nodes) await one.close();
  }
});

Deno.test("a node of another namespace, or without the secret, is never a peer", async () => {
  const namespace = crypto.randomUUID();
  const privateNetworkKey = crypto.getRandomValues(new Uint8Array(32));
  const inside = await join(namespace, [], privateNetworkKey);
  const at = [loopbackOf(inside)];
  const nodes = [
    inside,
    ...await Promise.all([
      join(namespace, at, privateNetworkKey),
      join(namespace, at),
      join(namespace, at, crypto.getRandomValues(new Uint8Array(32))),
      join(crypto.randomUUID(), at, privateNetworkKey),
    ]),
  ];
  try {
    const [one, friend, ...strangers] = nodes as [Transport, Transport, ...Transport[]];
    await eventually("the two of the cluster are linked", () => linked(one) === 1);
    assert.deepEqual([...one.peers()], [friend.self]);
    assert.deepEqual([...friend.peers()], [one.self]);
    for (const stranger of strangers) assert.equal(stranger.peers().size, 0);
  } finally {
    for (const node of nodes) await node.close();
  }
});

Deno.test("a node that starts again as the same, elsewhere, is linked again at once", async () => {
  const namespace = crypto.randomUUID();
  const [a, identityKey] = [await join(namespace), await newIdentity()];
  const options = { identityKey, namespace, port: 0, bootstrap: [loopbackOf(a)] };
  let b = await connectLibp2p(options);
  try {
    await eventually("they are linked", () => linked(a) === 1);
    await b.close();
    await eventually("it is gone", () => a.peers().size === 0);
    b = await connectLibp2p(options);
    const started = performance.now();
    const address = loopbackOf(b);
    await eventually("it is linked there", () => a.links().some((one) => one.address === address));
    assert.ok(performance.now() - started < 2_000);
    assert.deepEqual(a.links().map(({ address }) => address), [address]);
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
});

Deno.test("a slow reader of large messages gets all of them, though the writer has gone on", async () => {
  const namespace = crypto.randomUUID();
  const a = await join(namespace);
  const b = await join(namespace, [loopbackOf(a)]);
  const MEBIBYTE = 1024 * 1024;
  const COUNT = 48;
  try {
    await eventually("they are linked", () => linked(a) === 1);
    const taken = Promise.withResolvers<MessageStream>();
    b.handleStream("/large", taken.resolve);
    const here = await a.openStream(b.self, "/large");
    const there = await taken.promise;
    there.end();
    const sent = (async () => {
      for (let n = 0; n < COUNT; n++) await here.send(new Uint8Array(MEBIBYTE).fill(n));
      here.end();
    })();
    // As much as is taken without a reader has come, and the writer is held back.
    b.handle("/settled", (body) => Promise.resolve(body));
    for (let turn = 0; turn < 20; turn++) {
      await a.request(b.self, "/settled", patterned(MEBIBYTE), PATIENT);
    }
    const first: (number | undefined)[] = [];
    for await (const message of there) first.push(message[0]);
    assert.deepEqual(first, Array.from({ length: COUNT }, (_, n) => n));
    await sent;
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
});

Deno.test("a name that no peer takes is refused here, and costs no link", async () => {
  const namespace = crypto.randomUUID();
  const a = await join(namespace);
  try {
    for (const name of ["", "x".repeat(65), "ü".repeat(33)]) {
      rejects(() => a.publish(name, new Uint8Array()), "invalid_request", /1 to 64 needed/);
      const { self } = a;
      await failsWith(a.request(self, name, new Uint8Array(), PATIENT), "invalid_request");
      await failsWith(a.openStream(self, name), "invalid_request");
    }
  } finally {
    await a.close();
  }
});

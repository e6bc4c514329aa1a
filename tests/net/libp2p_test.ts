import assert from "node:assert/strict";
import { newIdentity } from "../../net/identity.ts";
import { connectLibp2p } from "../../net/libp2p.ts";
import type { Transport } from "../../net/transport.ts";
import { transportConformance } from "../conformance/transport.ts";
import { eventually } from "../support/eventually.ts";

/** A transport of a namespace that no other test has. */
async function join(namespace: string, bootstrap: readonly string[] = []): Promise<Transport> {
  return await connectLibp2p({ identityKey: await newIdentity(), namespace, port: 0, bootstrap });
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
  const loopback = a.addresses().find((address) => address.includes("/127.0.0.1/")) ?? "";
  const b = await join(namespace, [loopback.replace(/\/p2p\/.*/, "")]);
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

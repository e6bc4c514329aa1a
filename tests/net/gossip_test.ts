import type { GossipSub } from "@libp2p/gossipsub";
import assert from "node:assert/strict";
import { NodeId } from "../../core/ids.ts";
import { Gossip } from "../../net/gossip.ts";

/** As much of gossipsub as is used, and what was asked of it. */
class FakePubsub extends EventTarget {
  readonly asked: string[] = [];
  subscribers: string[] = [];

  publish(topic: string): Promise<never> {
    this.asked.push(`publish ${topic}`);
    return Promise.reject(new Error("it is not started"));
  }
  subscribe(topic: string): void {
    this.asked.push(`subscribe ${topic}`);
  }
  unsubscribe(topic: string): void {
    this.asked.push(`unsubscribe ${topic}`);
  }
  getSubscribers(): string[] {
    return this.subscribers;
  }
  say(topic: string, from = "b", type = "signed"): void {
    const detail = { type, topic, from, data: Uint8Array.of(1) };
    this.dispatchEvent(new CustomEvent("message", { detail }));
  }
}

function started() {
  const pubsub = new FakePubsub();
  const self = NodeId.parse("self");
  const gossip = new Gossip(pubsub as unknown as GossipSub, { prefix: "exo/ns/", self });
  const heard: string[] = [];
  const listen = (topic: string, name = topic) =>
    gossip.subscribe(topic, (message, from) => heard.push(`${name} ${from} ${message}`));
  return { pubsub, gossip, heard, listen };
}

Deno.test("a topic is subscribed to once, for as long as somebody listens", () => {
  const { pubsub, listen, heard } = started();
  const stops = [listen("t", "1"), listen("t", "2")];
  pubsub.say("exo/ns/t");
  for (const stop of [...stops, ...stops]) stop();
  pubsub.say("exo/ns/t");
  assert.deepEqual(heard, ["1 b 1", "2 b 1"]);
  assert.deepEqual(pubsub.asked, ["subscribe exo/ns/t", "unsubscribe exo/ns/t"]);
});

Deno.test("what is not signed, of another namespace, of nobody or of this node is not heard", () => {
  const { pubsub, listen, heard, gossip } = started();
  listen("t");
  pubsub.say("exo/ns/t", "b", "unsigned");
  pubsub.say("exo/other/t");
  pubsub.say("exo/ns/t", "");
  pubsub.say("exo/ns/t", "self");
  pubsub.say("exo/ns/nobody");
  assert.deepEqual(heard, []);
  assert.equal(gossip.droppedCount, 0);
});

Deno.test("a subscriber that throws or leaves meanwhile keeps nobody from hearing", () => {
  const { pubsub, listen, heard, gossip } = started();
  const stop = gossip.subscribe("t", () => {
    stop();
    throw new Error("a subscriber's defect");
  });
  listen("t");
  pubsub.say("exo/ns/t");
  pubsub.say("exo/ns/t");
  assert.deepEqual(heard, ["t b 1", "t b 1"]);
});

Deno.test("one node that says too much is not listened to for a while; others are", () => {
  const { pubsub, listen, heard, gossip } = started();
  listen("t");
  for (let said = 0; said < 20_000; said++) pubsub.say("exo/ns/t", "loud");
  pubsub.say("exo/ns/t", "quiet");
  assert.equal(heard.at(-1), "t quiet 1");
  assert.ok(heard.length >= 4_001 && gossip.droppedCount > 0, `${heard.length} heard`);
  assert.equal(heard.length + gossip.droppedCount, 20_001);
});

Deno.test("publishing while it stops is lost without a word", async () => {
  const { pubsub, gossip } = started();
  gossip.publish("t", new Uint8Array());
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.deepEqual(pubsub.asked, ["publish exo/ns/t"]);
});

Deno.test("it is known whether others than those linked listen", () => {
  const { pubsub, gossip } = started();
  const peers = new Set([NodeId.parse("b")]);
  assert.equal(gossip.hasOthers("t", peers), false);
  pubsub.subscribers = ["b"];
  assert.equal(gossip.hasOthers("t", peers), false);
  pubsub.subscribers = ["b", "c"];
  assert.equal(gossip.hasOthers("t", peers), true);
});

Deno.test("closed, nobody hears anything, and leaving late does nothing", () => {
  const { pubsub, gossip, listen, heard } = started();
  const stop = listen("t");
  gossip.close();
  pubsub.say("exo/ns/t");
  stop();
  assert.deepEqual(heard, []);
  assert.deepEqual(pubsub.asked, ["subscribe exo/ns/t"]);
});

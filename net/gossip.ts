import type { GossipSub } from "@libp2p/gossipsub";
import { NodeId } from "../core/ids.ts";
import { RateLimits } from "./rate_limit.ts";

/** Messages of one node in a second, and at once: to all, and to this node alone. */
const MESSAGE_RATE = { perSecond: 3_000, burst: 8_000 };

type TopicHandler = (message: Uint8Array, from: NodeId) => void;

/** Topics over gossipsub: every message is signed, and known by who signed it. */
export class Gossip {
  readonly #pubsub: GossipSub;
  readonly #prefix: string;
  readonly #self: NodeId;
  readonly #handlers = new Map<string, Set<TopicHandler>>();
  readonly #rates = new RateLimits<NodeId>(MESSAGE_RATE);
  /** Messages of others that were not listened to, since there were too many. */
  droppedCount = 0;

  /** Topics of other prefixes are not heard. */
  constructor(pubsub: GossipSub, { prefix, self }: { prefix: string; self: NodeId }) {
    this.#pubsub = pubsub;
    this.#prefix = prefix;
    this.#self = self;
    pubsub.addEventListener("message", ({ detail }) => {
      if (detail.type !== "signed" || !detail.topic.startsWith(prefix)) return;
      const from = NodeId.safeParse(detail.from.toString());
      if (from.success) this.hear(detail.topic.slice(prefix.length), detail.data, from.data);
    });
  }

  publish(topic: string, message: Uint8Array): void {
    // It fails when it is just stopping; a full queue is told to the logger.
    this.#pubsub.publish(this.#prefix + topic, message).catch(() => {});
  }

  subscribe(topic: string, handler: TopicHandler): () => void {
    const handlers = this.#handlers.get(topic) ?? new Set();
    if (handlers.size === 0) this.#pubsub.subscribe(this.#prefix + topic);
    this.#handlers.set(topic, handlers.add(handler));
    return () => {
      if (!handlers.delete(handler) || handlers.size > 0) return;
      this.#handlers.delete(topic);
      this.#pubsub.unsubscribe(this.#prefix + topic);
    };
  }

  /** Whether somebody listens to a topic who is none of `peers`. */
  hasOthers(topic: string, peers: ReadonlySet<NodeId>): boolean {
    const subscribers = this.#pubsub.getSubscribers(this.#prefix + topic);
    return subscribers.some((one) => !peers.has(one.toString() as NodeId));
  }

  /** Nobody hears anything from here on. */
  close(): void {
    for (const handlers of this.#handlers.values()) handlers.clear();
    this.#handlers.clear();
  }

  /** Somebody has said something, and proven who it is. */
  hear(topic: string, message: Uint8Array, from: NodeId): void {
    if (from === this.#self) return;
    if (!this.#rates.take(from, performance.now())) return void this.droppedCount++;
    for (const handler of [...this.#handlers.get(topic) ?? []]) {
      try {
        handler(message, from);
      } catch {
        // The promise of a topic is at most once: what a subscriber cannot take is lost to it alone.
      }
    }
  }
}

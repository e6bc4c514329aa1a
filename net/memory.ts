import { AppError, toAppError } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { MemoryStream } from "./memory_stream.ts";
import { type MemoryNetworkOptions, Weather, Wire } from "./memory_wire.ts";
import { checkSize, tooLate, unreachable } from "./refusals.ts";
import {
  type Link,
  type MessageStream,
  type PeerChange,
  PUBLISH_BYTES_MAX,
  TELL_BYTES_MAX,
  type Transport,
} from "./transport.ts";

type RequestHandler = (body: Uint8Array, from: NodeId) => Promise<Uint8Array>;
type StreamHandler = (stream: MessageStream) => void;
type TopicHandler = (message: Uint8Array, from: NodeId) => void;

/**
 * Nodes of one process that reach each other without a wire: at once and safely, unless the options
 * say otherwise.
 */
export class MemoryNetwork {
  readonly #weather: Weather;
  readonly #nodes = new Map<NodeId, MemoryTransport>();
  /** Of nodes that are connected, and of each with itself; by `pairKey`. */
  readonly #wires = new Map<string, Wire>();
  readonly #cuts = new Set<string>();
  #groups: readonly ReadonlySet<NodeId>[] = [];
  readonly #addressOf: (peer: NodeId) => string;

  constructor(options: MemoryNetworkOptions = {}) {
    this.#addressOf = options.addressOf ?? ((peer) => `/memory/${peer}`);
    this.#weather = new Weather(options);
  }

  /** Joins as `self`; an earlier node of this id is gone. */
  join(self: NodeId): Transport {
    void this.#nodes.get(self)?.close();
    const transport = new MemoryTransport(self, {
      nodeOf: (id) => this.#nodes.get(id),
      wireTo: (peer) => this.#wires.get(pairKey(self, peer)),
      peers: () => this.#peersOf(self),
      leave: () => this.#leave(self),
      addressOf: this.#addressOf,
    });
    this.#nodes.set(self, transport);
    this.#wires.set(pairKey(self, self), new Wire(new Weather({ timer: this.#weather.timer })));
    this.#review();
    return transport;
  }

  /** Only nodes of one group reach each other; those that are in none are one more group. */
  partition(groups: readonly (readonly NodeId[])[]): void {
    this.#groups = groups.map((group) => new Set(group));
    this.#review();
  }

  /** These two do not reach each other. */
  cut(a: NodeId, b: NodeId): void {
    this.#cuts.add(pairKey(a, b));
    this.#review();
  }

  /** All reach each other again. */
  heal(): void {
    this.#groups = [];
    this.#cuts.clear();
    this.#review();
  }

  #peersOf(self: NodeId): NodeId[] {
    return [...this.#nodes.keys()]
      .filter((id) => id !== self && this.#wires.has(pairKey(self, id)));
  }

  #leave(self: NodeId): void {
    const peers = this.#peersOf(self);
    this.#nodes.delete(self);
    for (const peer of peers) this.#disconnect(self, peer, "a node has stopped");
    const own = pairKey(self, self);
    this.#wires.get(own)?.break("the node has stopped");
    this.#wires.delete(own);
  }

  /** Makes every pair of nodes what it should be: connected, cut, or connected again. */
  #review(): void {
    const ids = [...this.#nodes.keys()];
    for (const [at, a] of ids.entries()) {
      for (const b of ids.slice(at + 1)) this.#reviewPair(a, b);
    }
  }

  #reviewPair(a: NodeId, b: NodeId): void {
    const key = pairKey(a, b);
    const wire = this.#wires.get(key);
    if (!this.#isOpen(a, b)) wire?.cut(() => this.#disconnect(a, b, "the other node is silent"));
    else if (wire) wire.mend();
    else {
      this.#wires.set(key, new Wire(this.#weather));
      this.#tell(a, b, true);
    }
  }

  #isOpen(a: NodeId, b: NodeId): boolean {
    const groupOf = (id: NodeId) => this.#groups.findIndex((group) => group.has(id));
    return !this.#cuts.has(pairKey(a, b)) && groupOf(a) === groupOf(b);
  }

  #disconnect(a: NodeId, b: NodeId, reason: string): void {
    const key = pairKey(a, b);
    const wire = this.#wires.get(key);
    this.#wires.delete(key);
    wire?.break(reason);
    this.#tell(a, b, false);
  }

  #tell(a: NodeId, b: NodeId, isConnected: boolean): void {
    this.#nodes.get(a)?.peerChanged({ peer: b, isConnected });
    this.#nodes.get(b)?.peerChanged({ peer: a, isConnected });
  }
}

/** What a node of the network needs of it. */
interface Surroundings {
  nodeOf(id: NodeId): MemoryTransport | undefined;
  /** The wire to a node that is connected, or to oneself. */
  wireTo(peer: NodeId): Wire | undefined;
  peers(): readonly NodeId[];
  leave(): void;
  addressOf(peer: NodeId): string;
}

class MemoryTransport implements Transport {
  readonly self: NodeId;
  readonly #around: Surroundings;
  readonly #requests = new Map<string, RequestHandler>();
  readonly #streams = new Map<string, StreamHandler>();
  readonly #topics = new Map<string, Set<TopicHandler>>();
  readonly #peerListeners = new Set<(change: PeerChange) => void>();
  #closed = false;

  constructor(self: NodeId, around: Surroundings) {
    this.self = self;
    this.#around = around;
  }

  addresses(): readonly string[] {
    return [this.#around.addressOf(this.self)];
  }

  peers(): ReadonlySet<NodeId> {
    return new Set(this.#closed ? [] : this.#around.peers());
  }

  onPeer(listener: (change: PeerChange) => void): () => void {
    this.#peerListeners.add(listener);
    return () => this.#peerListeners.delete(listener);
  }

  links(): readonly Link[] {
    return [...this.peers()].map((peer) => {
      const rttMs = this.#around.wireTo(peer)?.rttMs;
      const address = this.#around.addressOf(peer);
      return { peer, address, ...(rttMs === undefined ? {} : { rttMs }) };
    });
  }

  onLinks(listener: () => void): () => void {
    return this.onPeer(() => listener());
  }

  /** A peer is there, or is not any more. */
  peerChanged(change: PeerChange): void {
    for (const listener of [...this.#peerListeners]) listener(change);
  }

  publish(topic: string, message: Uint8Array): void {
    checkSize(message, topic, PUBLISH_BYTES_MAX);
    for (const peer of this.peers()) {
      const { node, wire } = this.#reach(peer, topic);
      wire.carryLossy(() => node.#hear(topic, message, this.self));
    }
  }

  tell(peer: NodeId, topic: string, message: Uint8Array): void {
    checkSize(message, topic, TELL_BYTES_MAX);
    const { node, wire } = this.#reach(peer, topic);
    wire.carryLossy(() => node.#hear(topic, message, this.self));
  }

  subscribe(topic: string, handler: TopicHandler): () => void {
    const handlers = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, handlers.add(handler));
    return () => handlers.delete(handler);
  }

  async request(
    peer: NodeId,
    protocol: string,
    body: Uint8Array,
    { timeoutMs }: { timeoutMs: number },
  ): Promise<Uint8Array> {
    checkSize(body, protocol);
    const { node, wire } = this.#reach(peer, protocol);
    const asked = Promise.withResolvers<Uint8Array>();
    const late = () => asked.reject(tooLate(peer, protocol, timeoutMs));
    const stopTimer = wire.timer.after(timeoutMs, late);
    const forget = wire.onBreak(() => asked.reject(unreachable(peer, protocol)));
    wire.carry(() =>
      void node.#answer(protocol, body, this.self).then(
        (answer) => wire.carry(() => asked.resolve(answer)),
        // As over a wire: what the handler threw arrives as data.
        (cause) => wire.carry(() => asked.reject(AppError.from(toAppError(cause).toInfo()))),
      )
    );
    try {
      return await asked.promise;
    } finally {
      stopTimer();
      forget();
    }
  }

  handle(protocol: string, handler: RequestHandler): () => void {
    this.#requests.set(protocol, handler);
    return () => this.#requests.delete(protocol);
  }

  async openStream(peer: NodeId, protocol: string): Promise<MessageStream> {
    const { node, wire } = this.#reach(peer, protocol);
    const opened = Promise.withResolvers<MessageStream>();
    const refuse = () => opened.reject(unreachable(peer, protocol));
    const forget = wire.onBreak(refuse);
    wire.carry(() => {
      const handler = node.#streams.get(protocol);
      if (!handler) return wire.carry(refuse);
      const [here, there] = MemoryStream.pair(this.self, peer, wire);
      wire.carry(() => opened.resolve(here));
      try {
        handler(there);
      } catch {
        there.abort("its handler failed");
      }
    });
    try {
      return await opened.promise;
    } finally {
      forget();
    }
  }

  handleStream(protocol: string, handler: StreamHandler): () => void {
    this.#streams.set(protocol, handler);
    return () => this.#streams.delete(protocol);
  }

  /** Nothing is: its queues are as long as they need to be. */
  droppedCount(): number {
    return 0;
  }

  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    this.#requests.clear();
    this.#streams.clear();
    this.#topics.clear();
    this.#peerListeners.clear();
    this.#around.leave();
    return Promise.resolve();
  }

  /** @throws {AppError} `node_unreachable`; a closed transport reaches nobody. */
  #reach(peer: NodeId, protocol: string): { node: MemoryTransport; wire: Wire } {
    const node = this.#around.nodeOf(peer);
    const wire = this.#around.wireTo(peer);
    if (this.#closed || !node || !wire) throw unreachable(peer, protocol);
    return { node, wire };
  }

  async #answer(protocol: string, body: Uint8Array, from: NodeId): Promise<Uint8Array> {
    const handler = this.#requests.get(protocol);
    if (!handler) throw unreachable(this.self, protocol);
    return await handler(body, from);
  }

  #hear(topic: string, message: Uint8Array, from: NodeId): void {
    for (const handler of [...this.#topics.get(topic) ?? []]) {
      try {
        handler(message, from);
      } catch {
        // The promise of a topic is at most once: what a subscriber cannot take is lost to it alone.
      }
    }
  }
}

/** The same for both orders. */
function pairKey(a: NodeId, b: NodeId): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

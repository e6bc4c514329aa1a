import { AppError, toAppError } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { Channel } from "./channel.ts";
import {
  type Link as PeerLink,
  MESSAGE_BYTES_MAX,
  type MessageStream,
  type PeerChange,
  PUBLISH_BYTES_MAX,
  STREAM_CREDIT_MESSAGES,
  type Transport,
} from "./transport.ts";

type RequestHandler = (body: Uint8Array, from: NodeId) => Promise<Uint8Array>;
type StreamHandler = (stream: MessageStream) => void;
type TopicHandler = (message: Uint8Array, from: NodeId) => void;

/** Nodes of one process that reach each other without a wire. */
export class MemoryNetwork {
  readonly #nodes = new Map<NodeId, MemoryTransport>();

  /** Joins as `self`. */
  join(self: NodeId): Transport {
    const transport = new MemoryTransport(self, this.#nodes);
    this.#nodes.set(self, transport);
    tell(this.#nodes, { peer: self, isConnected: true });
    return transport;
  }
}

class MemoryTransport implements Transport {
  readonly self: NodeId;
  readonly requests = new Map<string, RequestHandler>();
  readonly streams = new Map<string, StreamHandler>();
  readonly topics = new Map<string, Set<TopicHandler>>();
  readonly peerListeners = new Set<(change: PeerChange) => void>();
  readonly #nodes: Map<NodeId, MemoryTransport>;
  readonly #open = new Set<MemoryStream>();
  #closed = false;

  constructor(self: NodeId, nodes: Map<NodeId, MemoryTransport>) {
    this.self = self;
    this.#nodes = nodes;
  }

  addresses(): readonly string[] {
    return [`/memory/${this.self}`];
  }

  peers(): ReadonlySet<NodeId> {
    return new Set(this.#closed ? [] : [...this.#nodes.keys()].filter((id) => id !== this.self));
  }

  onPeer(listener: (change: PeerChange) => void): () => void {
    this.peerListeners.add(listener);
    return () => this.peerListeners.delete(listener);
  }

  links(): readonly PeerLink[] {
    return [...this.peers()].map((peer) => ({ peer, address: `/memory/${peer}` }));
  }

  onLinks(listener: () => void): () => void {
    return this.onPeer(listener);
  }

  publish(topic: string, message: Uint8Array): void {
    checkSize(message, topic, PUBLISH_BYTES_MAX);
    if (this.#closed) return;
    for (const [id, node] of this.#nodes) {
      if (id === this.self) continue;
      for (const handler of node.topics.get(topic) ?? []) {
        queueMicrotask(() => node.#hear(topic, handler, message, this.self));
      }
    }
  }

  subscribe(topic: string, handler: TopicHandler): () => void {
    const handlers = this.topics.get(topic) ?? new Set();
    this.topics.set(topic, handlers.add(handler));
    return () => handlers.delete(handler);
  }

  async request(
    peer: NodeId,
    protocol: string,
    body: Uint8Array,
    { timeoutMs }: { timeoutMs: number },
  ): Promise<Uint8Array> {
    checkSize(body, protocol);
    const handler = this.#reach(peer)?.requests.get(protocol);
    if (!handler) throw unreachable(peer, protocol);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(tooLate(peer, protocol, timeoutMs)), timeoutMs);
    });
    try {
      return await Promise.race([handler(body, this.self), late]);
    } catch (cause) {
      // As over a wire: what the handler threw arrives as data.
      throw AppError.from(toAppError(cause).toInfo());
    } finally {
      clearTimeout(timer);
    }
  }

  handle(protocol: string, handler: RequestHandler): () => void {
    this.requests.set(protocol, handler);
    return () => this.requests.delete(protocol);
  }

  openStream(peer: NodeId, protocol: string): Promise<MessageStream> {
    const node = this.#reach(peer);
    const handler = node?.streams.get(protocol);
    if (!node || !handler) return Promise.reject(unreachable(peer, protocol));
    const [here, there] = MemoryStream.pair(this.self, peer);
    this.#track(here);
    node.#track(there);
    queueMicrotask(() => {
      try {
        handler(there);
      } catch {
        there.abort("its handler failed");
      }
    });
    return Promise.resolve(here);
  }

  handleStream(protocol: string, handler: StreamHandler): () => void {
    this.streams.set(protocol, handler);
    return () => this.streams.delete(protocol);
  }

  close(): Promise<void> {
    if (this.#nodes.delete(this.self)) tell(this.#nodes, { peer: this.self, isConnected: false });
    this.#closed = true;
    this.requests.clear();
    this.streams.clear();
    this.topics.clear();
    this.peerListeners.clear();
    for (const stream of this.#open) stream.abort("the node has stopped");
    return Promise.resolve();
  }

  #track(stream: MemoryStream): void {
    this.#open.add(stream);
    stream.onDone = () => this.#open.delete(stream);
  }

  /** The transport of `peer`; a closed one reaches nobody. */
  #reach(peer: NodeId): MemoryTransport | undefined {
    return this.#closed ? undefined : this.#nodes.get(peer);
  }

  #hear(topic: string, handler: TopicHandler, message: Uint8Array, from: NodeId): void {
    if (!this.topics.get(topic)?.has(handler)) return;
    try {
      handler(message, from);
    } catch {
      // The promise of a topic is at most once: what a subscriber cannot take is lost to it alone.
    }
  }
}

/** What both ends of a stream share: a channel each way, and one way to break them. */
interface Link {
  readonly there: Channel<Uint8Array>;
  readonly back: Channel<Uint8Array>;
  readonly broken: AbortController;
  readonly ends: MemoryStream[];
}

class MemoryStream implements MessageStream {
  readonly peer: NodeId;
  readonly aborted: AbortSignal;
  /** Called when both directions have ended: nothing is left to break. */
  onDone: () => void = () => {};
  readonly #inbox: Channel<Uint8Array>;
  readonly #outbox: Channel<Uint8Array>;
  readonly #link: Link;

  private constructor(peer: NodeId, link: Link, direction: "there" | "back") {
    this.peer = peer;
    this.#outbox = link[direction];
    this.#inbox = link[direction === "there" ? "back" : "there"];
    this.#link = link;
    this.aborted = link.broken.signal;
    link.ends.push(this);
  }

  /** The two ends of a stream between nodes `a` and `b`. */
  static pair(a: NodeId, b: NodeId): [MemoryStream, MemoryStream] {
    const link: Link = {
      there: new Channel<Uint8Array>(STREAM_CREDIT_MESSAGES),
      back: new Channel<Uint8Array>(STREAM_CREDIT_MESSAGES),
      broken: new AbortController(),
      ends: [],
    };
    return [new MemoryStream(b, link, "there"), new MemoryStream(a, link, "back")];
  }

  async send(message: Uint8Array): Promise<void> {
    checkSize(message, `a stream to ${this.peer}`);
    if (await this.#outbox.push(message)) return;
    throw new AppError("node_unreachable", `Cannot send to ${this.peer}: the stream has ended`);
  }

  end(): void {
    this.#outbox.end();
    if (this.#inbox.ended) this.#done();
  }

  abort(reason: string): void {
    if (this.#inbox.ended && this.#outbox.ended) return;
    this.#inbox.clear();
    this.#outbox.clear();
    this.#done();
    this.#link.broken.abort(reason);
  }

  [Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    return this.#inbox[Symbol.asyncIterator]();
  }

  #done(): void {
    for (const end of this.#link.ends) end.onDone();
  }
}

/** All others hear of a node that has come or gone. */
function tell(nodes: ReadonlyMap<NodeId, MemoryTransport>, change: PeerChange): void {
  for (const [id, { peerListeners }] of nodes) {
    if (id === change.peer) continue;
    for (const listener of [...peerListeners]) listener(change);
  }
}

function checkSize(message: Uint8Array, where: string, bytesMax = MESSAGE_BYTES_MAX): void {
  if (message.length <= bytesMax) return;
  throw new AppError(
    "payload_too_large",
    `Cannot send ${message.length} bytes to ${where}: ${bytesMax} at most`,
  );
}

function unreachable(peer: NodeId, protocol: string): AppError {
  return new AppError("node_unreachable", `Cannot reach node ${peer} for ${protocol}`, {
    hint: "exo status shows the nodes that are up",
  });
}

function tooLate(peer: NodeId, protocol: string, timeoutMs: number): AppError {
  const message = `Node ${peer} did not answer ${protocol} within ${timeoutMs} ms`;
  return new AppError("timed_out", message, {
    hint: "exo status shows whether it is up; ask again once it is",
  });
}

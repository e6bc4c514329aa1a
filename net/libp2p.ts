import type { Connection, Stream } from "@libp2p/interface";
import { createHash } from "node:crypto";
import { AppError } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { FramedStream } from "./framed_stream.ts";
import { Gossip } from "./gossip.ts";
import { nodeIdOf } from "./identity.ts";
import { type Host, startHost } from "./libp2p_host.ts";
import { silentLogger } from "./libp2p_logger.ts";
import { Links } from "./links.ts";
import { PART_BYTES } from "./link_stream.ts";
import { localAddresses, readHostId } from "./local_addresses.ts";
import { Mdns } from "./mdns.ts";
import { MemoryNetwork } from "./memory.ts";
import { RateLimits } from "./rate_limit.ts";
import { checkName, checkSize, unreachable } from "./refusals.ts";
import {
  type Link,
  type MessageStream,
  type PeerChange,
  PUBLISH_BYTES_MAX,
  TELL_BYTES_MAX,
  type Transport,
} from "./transport.ts";

/** How long a starting node looks for others before it takes itself to be alone. */
export const SEARCH_MS = 500;

/** How often it is looked at which addresses this host has. */
const INTERFACES_MS = 5_000;

/** Streams that one peer may have open to this node. */
const STREAMS_PER_PEER_MAX = 1_024;

/** Streams that one peer may open in a second, and at once. */
const STREAM_RATE = { perSecond: 500, burst: 1_000 };

/** How long the other end may take to accept a stream. */
const OPEN_TIMEOUT_MS = 5_000;

/** What a node's network is made of. */
export interface Libp2pOptions {
  /** The node's private key, in libp2p's protobuf form. */
  readonly identityKey: Uint8Array;
  /** Nodes of other namespaces are not there. */
  readonly namespace: string;
  /** The first port to try; the next free one if it is taken; 0: any. */
  readonly port: number;
  /** Multiaddrs of nodes of the cluster; tried again for as long as the node runs. */
  readonly bootstrap: readonly string[];
  /** 32 bytes that all nodes of the cluster have; absent: anybody in the network can join. */
  readonly privateNetworkKey?: Uint8Array | undefined;
}

type RequestHandler = (body: Uint8Array, from: NodeId) => Promise<Uint8Array>;
type StreamHandler = (stream: MessageStream) => void;

/**
 * Joins the network; resolves once another node is there, or none was found for `SEARCH_MS`.
 * @throws {AppError} `conflict` when no port is free.
 */
export async function connectLibp2p(options: Libp2pOptions): Promise<Transport> {
  let fullCount = 0;
  const logger = silentLogger(() => fullCount++);
  const { host, port } = await startHost({ ...options, logger });
  const transport = new Libp2pTransport(host, { ...options, port }, {
    hostId: await readHostId(),
    fullCount: () => fullCount,
  });
  try {
    await transport.start();
    return transport;
  } catch (cause) {
    await transport.close();
    throw cause;
  }
}

class Libp2pTransport implements Transport {
  readonly self: NodeId;
  readonly #host: Host;
  /** Streams that had more to write than they may hold. */
  readonly #fullCount: () => number;
  readonly #links: Links;
  readonly #mdns: Mdns;
  readonly #gossip: Gossip;
  /** The way to this node itself. */
  readonly #own: Transport;
  readonly #streamProtocol: string;
  readonly #port: number;
  #addresses: readonly string[];
  #interfaces: readonly string[] = ipv4Interfaces();
  #refresh: ReturnType<typeof setInterval> | undefined;
  readonly #requests = new Map<string, RequestHandler>();
  readonly #streams = new Map<string, StreamHandler>();
  readonly #openStreams = new Set<FramedStream>();
  readonly #streamRates = new RateLimits<NodeId>(STREAM_RATE);
  readonly #peerListeners = new Set<(change: PeerChange) => void>();
  readonly #linkListeners = new Set<() => void>();
  #closed: Promise<void> | undefined;

  constructor(
    host: Host,
    options: Libp2pOptions,
    { hostId, fullCount }: { hostId: string; fullCount: () => number },
  ) {
    this.#host = host;
    this.#fullCount = fullCount;
    this.self = nodeIdOf(options.identityKey);
    this.#own = new MemoryNetwork().join(this.self);
    this.#port = options.port;
    this.#addresses = localAddresses(this.#port);
    const { namespace, bootstrap } = options;
    this.#streamProtocol = `/exo/${namespace}/stream/1`;
    this.#gossip = new Gossip(host.services.pubsub, {
      prefix: `exo/${namespace}/`,
      self: this.self,
    });
    this.#links = new Links(host, {
      self: this.self,
      hostId,
      protocol: `/exo/${namespace}/link/1`,
      addresses: () => this.#addresses,
      bootstrap,
      published: (topic, message, from) => this.#gossip.hear(topic, message, from),
      answer: (protocol, body, from) => this.#answer(protocol, body, from),
      onPeer: (change) => {
        for (const listener of [...this.#peerListeners]) listener(change);
      },
      onLinks: () => {
        for (const listener of [...this.#linkListeners]) listener();
      },
    });
    this.#mdns = new Mdns({
      self: this.self,
      serviceName: serviceNameOf(namespace),
      addresses: () => this.#addresses,
      interfaces: () => this.#interfaces,
      found: (peer, addresses) => this.#links.learn(peer, addresses),
    });
  }

  async start(): Promise<void> {
    await this.#host.handle(this.#streamProtocol, (stream, connection) => {
      void this.#acceptStream(stream, connection);
    }, {
      maxInboundStreams: STREAMS_PER_PEER_MAX,
      // What is set here goes before what `newStream` is told.
      maxOutboundStreams: STREAMS_PER_PEER_MAX,
    });
    this.#refresh = setInterval(() => this.#lookAround(), INTERFACES_MS);
    await this.#links.start();
    this.#mdns.start();
    await this.#search();
  }

  addresses(): readonly string[] {
    return this.#addresses.map((address) => `${address}/p2p/${this.self}`);
  }

  peers(): ReadonlySet<NodeId> {
    return this.#links.peers();
  }

  onPeer(listener: (change: PeerChange) => void): () => void {
    this.#peerListeners.add(listener);
    return () => this.#peerListeners.delete(listener);
  }

  links(): readonly Link[] {
    return this.#links.links();
  }

  onLinks(listener: () => void): () => void {
    this.#linkListeners.add(listener);
    return () => this.#linkListeners.delete(listener);
  }

  publish(topic: string, message: Uint8Array): void {
    checkName(topic);
    checkSize(message, topic, PUBLISH_BYTES_MAX);
    if (this.#closed) return;
    const mesh = message.length <= PART_BYTES ? this.#links.mesh() : undefined;
    if (!mesh || this.#gossip.hasOthers(topic, this.peers())) {
      return this.#gossip.publish(topic, message);
    }
    for (const link of mesh) if (!link.publish(topic, message)) this.#gossip.droppedCount++;
  }

  tell(peer: NodeId, topic: string, message: Uint8Array): void {
    checkName(topic);
    checkSize(message, topic, TELL_BYTES_MAX);
    if (peer === this.self) return this.#own.tell(peer, topic, message);
    const link = this.#closed ? undefined : this.#links.best(peer);
    if (!link) throw unreachable(peer, topic);
    if (link.stream.publish(topic, message)) return;
    this.#gossip.droppedCount++;
    throw new AppError("queue_full", `Cannot tell ${peer} of ${topic}: it reads too slowly`);
  }

  subscribe(topic: string, handler: (message: Uint8Array, from: NodeId) => void): () => void {
    const stop = this.#gossip.subscribe(topic, handler);
    const stopOwn = this.#own.subscribe(topic, handler);
    return () => {
      stop();
      stopOwn();
    };
  }

  async request(
    peer: NodeId,
    protocol: string,
    body: Uint8Array,
    options: { timeoutMs: number },
  ): Promise<Uint8Array> {
    checkName(protocol);
    checkSize(body, protocol);
    if (peer === this.self) return await this.#own.request(peer, protocol, body, options);
    const link = this.#closed ? undefined : this.#links.best(peer);
    if (!link) throw unreachable(peer, protocol);
    return await link.stream.request(protocol, body, options);
  }

  handle(protocol: string, handler: RequestHandler): () => void {
    this.#requests.set(protocol, handler);
    const stopOwn = this.#own.handle(protocol, handler);
    return () => {
      this.#requests.delete(protocol);
      stopOwn();
    };
  }

  async openStream(peer: NodeId, protocol: string): Promise<MessageStream> {
    checkName(protocol);
    if (peer === this.self) return await this.#own.openStream(peer, protocol);
    const link = this.#closed ? undefined : this.#links.best(peer);
    if (!link) throw unreachable(peer, protocol);
    let stream: FramedStream | undefined;
    const signal = AbortSignal.timeout(OPEN_TIMEOUT_MS);
    try {
      const raw = await link.connection.newStream(this.#streamProtocol, {
        signal,
        maxOutboundStreams: STREAMS_PER_PEER_MAX,
      });
      stream = this.#track(raw, peer);
      await within(stream, signal, stream.open(protocol));
      return stream;
    } catch {
      stream?.abort("it was not accepted");
      throw unreachable(peer, protocol);
    }
  }

  handleStream(protocol: string, handler: StreamHandler): () => void {
    this.#streams.set(protocol, handler);
    const stopOwn = this.#own.handleStream(protocol, handler);
    return () => {
      this.#streams.delete(protocol);
      stopOwn();
    };
  }

  droppedCount(): number {
    return this.#gossip.droppedCount + this.#fullCount();
  }

  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    clearInterval(this.#refresh);
    this.#gossip.close();
    this.#requests.clear();
    this.#streams.clear();
    for (const stream of this.#openStreams) stream.abort("the node has stopped");
    const own = this.#own.close();
    this.#links.stop();
    this.#peerListeners.clear();
    this.#linkListeners.clear();
    await Promise.all([own, this.#mdns.stop(), this.#host.stop()]);
  }

  /** Interfaces come and go. */
  #lookAround(): void {
    const addresses = localAddresses(this.#port);
    if (addresses.join() === this.#addresses.join()) return;
    this.#addresses = addresses;
    this.#interfaces = ipv4Interfaces();
  }

  /** Resolves with the first peer, or when there was time enough to find one. */
  async #search(): Promise<void> {
    if (this.peers().size > 0) return;
    await new Promise<void>((resolve) => {
      const stop = this.onPeer(() => done());
      const timer = setTimeout(() => done(), SEARCH_MS);
      const done = () => {
        stop();
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #answer(protocol: string, body: Uint8Array, from: NodeId): Promise<Uint8Array> {
    const handler = this.#requests.get(protocol);
    if (!handler) throw unreachable(this.self, protocol);
    const answer = await handler(body, from);
    checkSize(answer, protocol);
    return answer;
  }

  /** The first frame of a stream names what it is for. */
  async #acceptStream(raw: Stream, connection: Connection): Promise<void> {
    const peer = connection.remotePeer.toString() as NodeId;
    const stream = this.#track(raw, peer);
    try {
      const isCrowded = !this.#streamRates.take(peer, performance.now());
      if (isCrowded) return stream.abort("too many at once");
      const protocol = await within(stream, AbortSignal.timeout(OPEN_TIMEOUT_MS), stream.opened());
      const handler = this.#streams.get(protocol);
      if (!handler) return stream.abort("it is for nobody here");
      stream.accept();
      handler(stream);
    } catch {
      stream.abort("its handler failed");
    }
  }

  #track(raw: Stream, peer: NodeId): FramedStream {
    const stream: FramedStream = new FramedStream(
      raw,
      peer,
      () => this.#openStreams.delete(stream),
    );
    this.#openStreams.add(stream);
    return stream;
  }
}

/** What `work` gives; the stream is broken when it is not done in time. */
async function within<T>(stream: FramedStream, signal: AbortSignal, work: Promise<T>): Promise<T> {
  const late = () => stream.abort("nothing was said in time");
  signal.addEventListener("abort", late);
  try {
    return await work;
  } finally {
    signal.removeEventListener("abort", late);
  }
}

/** The service under which nodes of a namespace find each other; a label has 63 characters at most. */
function serviceNameOf(namespace: string): string {
  const hash = createHash("sha256").update(namespace).digest("hex");
  return `_exo-${hash.slice(0, 16)}._udp.local`;
}

function ipv4Interfaces(): string[] {
  return Deno.networkInterfaces()
    .filter(({ family }) => family === "IPv4")
    .map(({ address }) => address);
}

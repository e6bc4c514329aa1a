import type { Connection, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { NodeId } from "../core/ids.ts";
import { AddressBook, RETRY_MS, RETRY_MS_MAX } from "./address_book.ts";
import { bootstrapAddresses } from "./bootstrap_address.ts";
import type { Host } from "./libp2p_host.ts";
import { type Hello, PEER_ADDRESSES_TOLD_MAX, PEERS_TOLD_MAX } from "./link_frames.ts";
import { LinkStream } from "./link_stream.ts";
import { type Link, LINK_SILENCE_MS, type PeerChange } from "./transport.ts";

/** How often it is looked at who is to be dialled, pinged or given up. */
const TICK_MS = 500;

/** Where an end is silent for so long, who dialled pings: in time for an answer before it is lost. */
const PING_MS = 1_400;

/** The first pings come one soon after the other: nodes that start are slow to answer. */
const FIRST_PINGS = 4;

/** How often a link is pinged to know its round-trip time, though it is not silent. */
const MEASURE_MS = 10_000;

/** How long a dial may take until the link stands. */
const DIAL_TIMEOUT_MS = 3_000;

/** As many peers are told something one by one; more than that hear it by gossip. */
const DIRECT_PEERS_MAX = 16;

/** Addresses of peers that are longer are not passed on: no IP address is, and `Hello` is one frame. */
const TOLD_ADDRESS_CHARS_MAX = 64;

/** Links of one peer to this node. */
const LINKS_PER_PEER_MAX = 128;

/** What links need of the transport that they are part of. */
export interface LinksOptions {
  readonly self: NodeId;
  readonly hostId: string;
  /** The protocol of link streams; that of other namespaces is another. */
  readonly protocol: string;
  /** Where this node listens, as it is now. */
  readonly addresses: () => readonly string[];
  /** Addresses of any nodes of the cluster, as multiaddrs. */
  readonly bootstrap: readonly string[];
  readonly published: (topic: string, message: Uint8Array, from: NodeId) => void;
  readonly answer: (protocol: string, body: Uint8Array, from: NodeId) => Promise<Uint8Array>;
  readonly onPeer: (change: PeerChange) => void;
  readonly onLinks: () => void;
}

/** A connection on which both ends have a link stream. */
interface OpenLink {
  readonly connection: Connection;
  readonly stream: LinkStream;
  readonly peer: NodeId;
  /** Where this node dialled; undefined when the peer did. */
  readonly address: string | undefined;
  pingedAt: number;
}

interface Bootstrap {
  readonly address: string;
  dueAt: number;
  failures: number;
  isDialling: boolean;
  /** Who was there last. */
  peer: NodeId | undefined;
}

/** All connections with nodes of the cluster: who is there, by which ways, and for how long. */
export class Links {
  readonly #host: Host;
  readonly #options: LinksOptions;
  readonly #book: AddressBook;
  readonly #open = new Set<OpenLink>();
  readonly #peers = new Map<NodeId, Set<OpenLink>>();
  readonly #bootstraps: Bootstrap[];
  #timer: ReturnType<typeof setInterval> | undefined;
  #tickedAt = performance.now();
  /** What all were told last of this node and its peers, as text. */
  #told = "";
  /** Whether peers have come, gone or spoken since. */
  #isStale = true;
  #toldAddresses: readonly string[] = [];
  /** The best links to all others, where everybody has links with everybody. */
  #mesh: readonly LinkStream[] | undefined;
  #isStopped = false;

  constructor(host: Host, options: LinksOptions) {
    this.#host = host;
    this.#options = options;
    this.#book = new AddressBook(options.self, options.hostId);
    const fresh = { dueAt: 0, failures: 0, isDialling: false, peer: undefined };
    this.#bootstraps = options.bootstrap.map((address) => ({ address, ...fresh }));
  }

  async start(): Promise<void> {
    const options = { maxInboundStreams: LINKS_PER_PEER_MAX };
    await this.#host.handle(this.#options.protocol, (stream, connection) => {
      this.#add(connection, stream, undefined);
    }, options);
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#tick();
  }

  /** Ends every link at once; each peer is heard to go. */
  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
    for (const { stream } of [...this.#open]) stream.close("the node is stopping");
  }

  /** Somebody has told where a node listens. */
  learn(peer: NodeId, addresses: readonly string[]): void {
    this.#book.learn(peer, addresses, performance.now());
    this.#dialDue();
  }

  /** The nodes that have introduced themselves. */
  peers(): ReadonlySet<NodeId> {
    return new Set(this.#peers.keys());
  }

  /** The proven ways from here. */
  links(): Link[] {
    return [...this.#peers].flatMap(([peer, links]) =>
      [...links].flatMap(({ address, stream }) =>
        address !== undefined && this.#book.isWanted(peer, address)
          ? [{ peer, address, ...(stream.rttMs === undefined ? {} : { rttMs: stream.rttMs }) }]
          : []
      )
    );
  }

  /** The best way to a peer: the quickest, if that was measured. */
  best(peer: NodeId): { readonly connection: Connection; readonly stream: LinkStream } | undefined {
    let best: OpenLink | undefined;
    for (const link of this.#peers.get(peer) ?? []) {
      const isBetter = (link.stream.rttMs ?? Infinity) < (best?.stream.rttMs ?? Infinity);
      if (!best || isBetter) best = link;
    }
    return best;
  }

  /**
   * A link to each other node, when there are few and each has links with all the others, as far as
   * they have told: then nobody has to pass anything on.
   */
  mesh(): readonly LinkStream[] | undefined {
    return this.#isStale ? undefined : this.#mesh;
  }

  #tick(): void {
    const now = performance.now();
    // What came while this process did not run has not been read yet: nobody is to blame.
    const stalled = now - this.#tickedAt - TICK_MS;
    this.#tickedAt = now;
    for (const link of [...this.#open]) this.#watch(link, now, stalled);
    this.#tellChanges();
    this.#dialDue();
  }

  #watch(link: OpenLink, now: number, stalledMs: number): void {
    const { stream, connection } = link;
    if (stalledMs > TICK_MS) stream.excuse(stalledMs);
    if (stream.silentMs() > LINK_SILENCE_MS) {
      const reason = `nothing was heard for ${LINK_SILENCE_MS} ms`;
      stream.close(reason);
      connection.abort(new Error(reason));
    } else if (link.address !== undefined && this.#isPingDue(link, now)) {
      link.pingedAt = now;
      stream.ping();
    }
  }

  #isPingDue({ stream, pingedAt }: OpenLink, now: number): boolean {
    const isNew = stream.pongCount < FIRST_PINGS;
    const wait = isNew || stream.quietMs() >= PING_MS ? PING_MS : MEASURE_MS;
    return now >= pingedAt + wait;
  }

  /** Tells all when there are other peers, or when this host has got other addresses. */
  #tellChanges(): void {
    const addresses = this.#options.addresses();
    if (!this.#isStale && this.#toldAddresses === addresses) return;
    [this.#isStale, this.#toldAddresses, this.#mesh] = [false, addresses, this.#findMesh()];
    const hello = this.#hello();
    const told = JSON.stringify(hello);
    if (told === this.#told) return;
    this.#told = told;
    for (const { stream } of this.#open) stream.greet(hello);
  }

  #hello(): Hello {
    const { hostId, addresses } = this.#options;
    const peers = [...this.#peers].slice(0, PEERS_TOLD_MAX).map(([nodeId, links]) => {
      const [first] = links;
      const known = first?.stream.hello?.addresses ?? [];
      const short = known.filter(({ length }) => length <= TOLD_ADDRESS_CHARS_MAX);
      return { nodeId, addresses: short.slice(0, PEER_ADDRESSES_TOLD_MAX) };
    });
    const isAll = this.#peers.size <= PEERS_TOLD_MAX;
    return { hostId, addresses: [...addresses()], peers, isAll };
  }

  #findMesh(): LinkStream[] | undefined {
    if (this.#peers.size > DIRECT_PEERS_MAX) return undefined;
    const isHere = (nodeId: NodeId) => nodeId === this.#options.self || this.#peers.has(nodeId);
    const best = [...this.#peers.keys()].flatMap((peer) => this.best(peer)?.stream ?? []);
    const isMesh = best.every(({ hello }) =>
      hello?.isAll && hello.peers.every(({ nodeId }) => isHere(nodeId))
    );
    return isMesh ? best : undefined;
  }

  #dialDue(): void {
    if (this.#isStopped) return;
    const now = performance.now();
    for (const { peer, address } of this.#book.due(now)) void this.#dialPeer(peer, address);
    for (const one of this.#bootstraps) {
      if (this.#isNeeded(one) && now >= one.dueAt) void this.#dialFirst(one);
    }
  }

  /** Whoever was found at a bootstrap address may be linked by a better way since. */
  #isNeeded({ isDialling, peer }: Bootstrap): boolean {
    return !isDialling && (peer === undefined || !this.#peers.has(peer));
  }

  async #dialPeer(peer: NodeId, address: string): Promise<void> {
    const link = await this.#dial(address);
    if (!link) this.#book.failed(peer, address, performance.now());
    else if (link.peer !== peer) this.#book.mistaken(peer, address, performance.now());
  }

  /** Dials an address of nobody in particular. */
  async #dialFirst(one: Bootstrap): Promise<void> {
    one.isDialling = true;
    one.peer = undefined;
    for (const address of await bootstrapAddresses(one.address)) {
      one.peer ??= (await this.#dial(address))?.peer;
    }
    one.isDialling = false;
    const wait = Math.min(RETRY_MS * 2 ** one.failures, RETRY_MS_MAX);
    one.dueAt = performance.now() + wait;
    one.failures = one.peer ? 0 : one.failures + 1;
  }

  /** Whoever is at an address, linked; undefined when nobody of the cluster is. */
  async #dial(address: string): Promise<OpenLink | undefined> {
    const signal = AbortSignal.timeout(DIAL_TIMEOUT_MS);
    let connection: Connection | undefined;
    try {
      // Without the peer's id in it: else dials of several addresses of one peer become one.
      connection = await this.#host.dial(multiaddr(address), { signal, force: true });
      if (connection.remotePeer.equals(this.#host.peerId)) {
        throw new Error("this is the node itself");
      }
      const stream = await connection.newStream(this.#options.protocol, { signal });
      const twin = this.#linkTo(connection.remotePeer.toString(), address);
      if (!twin) return this.#add(connection, stream, address);
      connection.abort(new Error("this node has a link to this address already"));
      return twin;
    } catch (cause) {
      connection?.abort(cause instanceof Error ? cause : new Error(String(cause)));
      return undefined;
    }
  }

  /** Another node may have told of the same address, or have had it before. */
  #linkTo(peer: string, address: string): OpenLink | undefined {
    return [...this.#open].find((link) => link.peer === peer && link.address === address);
  }

  #add(connection: Connection, raw: Stream, address: string | undefined): OpenLink {
    const peer = NodeId.parse(connection.remotePeer.toString());
    const { answer, published } = this.#options;
    const stream = new LinkStream(raw, peer, {
      published: (topic, message) => published(topic, message, peer),
      answer: (protocol, body) => answer(protocol, body, peer),
      greeted: (hello) => this.#greeted(link, hello),
      closed: () => this.#closed(link),
    });
    const link: OpenLink = { connection, stream, peer, address, pingedAt: -PING_MS };
    this.#open.add(link);
    if (this.#isStopped) stream.close("the node is stopping");
    else stream.greet(this.#hello());
    return link;
  }

  #greeted(link: OpenLink, hello: Hello): void {
    if (!this.#open.has(link)) return;
    const { peer, address } = link;
    if (address !== undefined) this.#book.linked(peer, address, performance.now());
    const links = this.#peers.get(peer) ?? new Set();
    const isNew = links.size === 0;
    const isNewLink = !links.has(link);
    this.#peers.set(peer, links.add(link));
    this.#isStale = true;
    this.#book.introduced(peer, hello, performance.now());
    for (const { nodeId, addresses } of hello.peers) {
      this.#book.learn(nodeId, addresses, performance.now());
    }
    this.#dropUnwanted(links);
    if (isNew) this.#options.onPeer({ peer, isConnected: true });
    if (isNewLink && address !== undefined) this.#options.onLinks();
    this.#dialDue();
  }

  /** A node of this host that was reached by an outer address is left there once it is linked inside. */
  #dropUnwanted(links: ReadonlySet<OpenLink>): void {
    const dialled = [...links].filter(({ address }) => address !== undefined);
    const isWanted = ({ peer, address = "" }: OpenLink) => this.#book.isWanted(peer, address);
    if (!dialled.some(isWanted)) return;
    for (const link of dialled) if (!isWanted(link)) link.stream.close("there is a better way");
  }

  #closed(link: OpenLink): void {
    const { peer, address, connection } = link;
    this.#open.delete(link);
    connection.close().catch((cause) => connection.abort(cause));
    const links = this.#peers.get(peer);
    if (!links?.delete(link)) {
      // Whoever does not introduce itself is of another kind, and may stay so.
      if (address !== undefined) this.#book.failed(peer, address, performance.now());
      return;
    }
    this.#isStale = true;
    if (address !== undefined) {
      this.#book.unlinked(peer, address, performance.now());
      this.#options.onLinks();
    }
    if (links.size > 0) return;
    this.#peers.delete(peer);
    this.#options.onPeer({ peer, isConnected: false });
  }
}

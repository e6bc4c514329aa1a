import type { Connection, Stream } from "@libp2p/interface";
import type { Host } from "../../net/libp2p_host.ts";
import { Links, type LinksOptions } from "../../net/links.ts";
import { NodeId } from "../../core/ids.ts";
import type { PeerChange } from "../../net/transport.ts";
import { FakeStream } from "./fake_stream.ts";

type Accept = (stream: Stream, connection: Connection) => void;

/** One end of a connection in memory. */
interface FakeConnection {
  isOpen: boolean;
  readonly peer: string;
  readonly streams: FakeStream[];
  readonly abort: () => void;
}

/** Nodes that dial each other in memory, each with the links of a real one. */
export class FakeHosts {
  /** Who is at an address. */
  readonly #at = new Map<string, FakeNode>();
  /** Addresses as they were dialled. */
  readonly dials: string[] = [];

  /** A node that is started by `links.start()`; `address`: where others reach it. */
  add(id: string, address: string, options: Partial<LinksOptions> = {}): FakeNode {
    const node = new FakeNode(this, id, { addresses: () => [address], ...options });
    this.#at.set(address, node);
    return node;
  }

  /** Nobody is there any more, or somebody else. */
  move(address: string, node: FakeNode | undefined): void {
    if (node) this.#at.set(address, node);
    else this.#at.delete(address);
  }

  /** A connection from a node to whoever is at the address. */
  dial(from: FakeNode, address: string): Connection {
    this.dials.push(address);
    const to = this.#at.get(address);
    if (!to) throw new Error("nobody is there");
    return from.connectTo(to);
  }
}

/** A node of `FakeHosts`. */
export class FakeNode {
  readonly id: NodeId;
  readonly links: Links;
  /** What was said of its peers: `+b`, `-b`. */
  readonly heard: string[] = [];
  /** Messages that were published to it. */
  readonly messages: string[] = [];
  readonly connections: FakeConnection[] = [];
  #accept: Accept = () => {};

  constructor(hosts: FakeHosts, id: string, options: Partial<LinksOptions>) {
    this.id = NodeId.parse(id);
    const host = {
      peerId: peerId(id),
      handle: (_protocol: string, accept: Accept) => {
        this.#accept = accept;
        return Promise.resolve();
      },
      dial: (address: { toString(): string }) =>
        Promise.resolve().then(() => hosts.dial(this, `${address}`)),
    };
    this.links = new Links(host as unknown as Host, {
      self: this.id,
      hostId: `host of ${id}`,
      protocol: "/link",
      addresses: () => [],
      bootstrap: [],
      published: (topic, _message, from) => this.messages.push(`${topic} of ${from}`),
      answer: (_protocol, body) => Promise.resolve(body),
      onPeer: ({ peer, isConnected }: PeerChange) =>
        this.heard.push(`${isConnected ? "+" : "-"}${peer}`),
      onLinks: () => {},
      ...options,
    });
  }

  /** Connections that are open at this end. */
  get openCount(): number {
    return this.connections.filter(({ isOpen }) => isOpen).length;
  }

  connectTo(to: FakeNode): Connection {
    const abort = () => {
      for (const end of [here, there]) {
        end.isOpen = false;
        for (const stream of end.streams) stream.abort(new Error("the connection is gone"));
      }
    };
    const here: FakeConnection = { isOpen: true, peer: to.id, streams: [], abort };
    const there: FakeConnection = { isOpen: true, peer: this.id, streams: [], abort };
    this.connections.push(here);
    to.connections.push(there);
    const open = async () => {
      await Promise.resolve();
      const [mine, yours] = FakeStream.pair();
      here.streams.push(mine);
      there.streams.push(yours);
      to.#accept(yours.stream, asConnection(there));
      return mine.stream;
    };
    return asConnection(here, open);
  }
}

function peerId(id: string) {
  return { toString: () => id, equals: (other: unknown) => String(other) === id };
}

function asConnection(end: FakeConnection, newStream?: () => Promise<Stream>): Connection {
  const close = () => Promise.resolve(end.abort());
  const { abort, peer } = end;
  return { remotePeer: peerId(peer), newStream, close, abort } as unknown as Connection;
}

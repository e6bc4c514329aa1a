// @ts-types="./multicast_dns.d.ts"
import multicastDns, { type Response, type Socket } from "multicast-dns";
import { NodeId } from "../core/ids.ts";

/** Queries after the first: packets get lost, above all on wireless networks. */
const QUERY_AFTER_MS = [250, 1_000, 3_000];

/** And from then on, for nodes that were cut off. */
const QUERY_EVERY_MS = 30_000;

/** How often the interfaces of this host are looked at. */
const INTERFACES_MS = 5_000;

/** A TXT record's text is no longer (RFC 6763, section 6.1). */
const TXT_BYTES_MAX = 255;

/** How a node tells of itself, and hears of others, by multicast DNS. */
export interface MdnsOptions {
  readonly self: NodeId;
  /** Nodes of other service names do not see each other: `_exo-0123abcd._udp.local`. */
  readonly serviceName: string;
  /** The multiaddrs that are told, as they are now. */
  readonly addresses: () => readonly string[];
  /** The IPv4 addresses of the interfaces on which to ask, as they are now. */
  readonly interfaces: () => readonly string[];
  readonly found: (peer: NodeId, addresses: readonly string[]) => void;
  /** Opens a socket on the interface that has this address. */
  readonly open?: (address: string) => Socket;
}

/**
 * Discovery in the local network (libp2p's mDNS specification, version 1.0.0 of 2022): one socket for
 * each interface, since a single one asks only where the default route leads, and clusters of cables
 * have none.
 */
export class Mdns {
  readonly #options: MdnsOptions;
  /** Where others find this node's records; no other node has the same. */
  readonly #instanceName: string;
  readonly #sockets = new Map<string, Socket>();
  readonly #timers: ReturnType<typeof setTimeout>[] = [];
  #interval: ReturnType<typeof setInterval> | undefined;

  constructor(options: MdnsOptions) {
    this.#options = options;
    this.#instanceName = `${options.self.slice(-32)}.${options.serviceName}`;
  }

  start(): void {
    this.#listen();
    this.#query();
    for (const ms of QUERY_AFTER_MS) this.#timers.push(setTimeout(() => this.#query(), ms));
    let queriedAt = performance.now();
    this.#interval = setInterval(() => {
      if (this.#listen() || performance.now() >= queriedAt + QUERY_EVERY_MS) {
        queriedAt = performance.now();
        this.#query();
      }
    }, INTERFACES_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#interval);
    for (const timer of this.#timers) clearTimeout(timer);
    const sockets = [...this.#sockets.values()];
    this.#sockets.clear();
    await Promise.all(
      sockets.map((socket) => new Promise<void>((done) => socket.destroy(() => done()))),
    );
  }

  /** Opens a socket on each interface that has none; whether there was one. */
  #listen(): boolean {
    const wanted = this.#options.interfaces();
    for (const [address, socket] of this.#sockets) {
      if (wanted.includes(address)) continue;
      this.#sockets.delete(address);
      socket.destroy();
    }
    const fresh = wanted.filter((address) => !this.#sockets.has(address));
    for (const address of fresh) this.#open(address);
    return fresh.length > 0;
  }

  #open(address: string): void {
    const { open = openSocket } = this.#options;
    const socket = open(address);
    this.#sockets.set(address, socket);
    // An interface without multicast, or one that has just gone: the others go on.
    socket.on("error", () => {});
    socket.on("warning", () => {});
    socket.on("query", (packet) => {
      const isOurs = (packet.questions ?? []).some(({ name }) =>
        name === this.#options.serviceName
      );
      if (isOurs) this.#respond(socket);
    });
    socket.on("response", (packet) => this.#hear(packet));
  }

  #query(): void {
    const questions = [{ name: this.#options.serviceName, type: "PTR" }];
    for (const socket of this.#sockets.values()) socket.query({ questions });
  }

  #respond(socket: Socket): void {
    const { self, serviceName, addresses } = this.#options;
    const pointer = { name: serviceName, type: "PTR", ttl: 120, data: this.#instanceName };
    const texts = addresses()
      .map((address) => `dnsaddr=${address}/p2p/${self}`)
      .filter((text) => text.length <= TXT_BYTES_MAX)
      .map((data) => ({ name: this.#instanceName, type: "TXT", ttl: 120, data }));
    socket.respond({ answers: [pointer, ...texts] });
  }

  #hear({ answers, additionals }: Response): void {
    const { serviceName, self, found } = this.#options;
    const records = [...answers ?? [], ...additionals ?? []];
    const isOurs = records.some(({ type, name }) => type === "PTR" && name === serviceName);
    if (!isOurs) return;
    const told = new Map<NodeId, string[]>();
    for (const record of records) {
      if (record.type !== "TXT") continue;
      for (const text of [record.data].flat()) {
        const { address, peer } = /^dnsaddr=(?<address>\/.+)\/p2p\/(?<peer>[^/]+)$/
          .exec(typeof text === "string" ? text : new TextDecoder().decode(text))?.groups ?? {};
        const nodeId = NodeId.safeParse(peer);
        if (!address || !nodeId.success || nodeId.data === self) continue;
        told.set(nodeId.data, [...told.get(nodeId.data) ?? [], address]);
      }
    }
    for (const [peer, list] of told) found(peer, list);
  }
}

function openSocket(address: string): Socket {
  return multicastDns({ interface: address, bind: "0.0.0.0" });
}

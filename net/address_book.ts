import type { NodeId } from "../core/ids.ts";
import { parseMultiaddr } from "../core/multiaddr.ts";
import { ADDRESSES_MAX, type Hello } from "./link_frames.ts";

/** Wait before an address is tried again that was proven before: its cable may be back. */
export const RETRY_PROVEN_MS = 500;

/** The first wait before an address is tried again that was never proven; each doubles it. */
export const RETRY_MS = 1_000;

/** The longest of these waits. */
export const RETRY_MS_MAX = 15_000;

/** Addresses of a node that was not heard of for so long are forgotten. */
export const FORGET_MS = 10 * 60_000;

/** Addresses that are kept of all nodes; one that has none yet is not taken up beyond it. */
export const ENTRIES_MAX = 4_096;

/** Where a node of the cluster may be reached. */
interface Entry {
  readonly peer: NodeId;
  readonly address: string;
  /** When somebody last told of it. */
  toldAt: number;
  dueAt: number;
  failures: number;
  isProven: boolean;
  state: "idle" | "dialling" | "linked";
}

/** Which addresses of which nodes are to be dialled when (design D13). Times in milliseconds. */
export class AddressBook {
  readonly #self: NodeId;
  readonly #hostId: string;
  readonly #entries = new Map<string, Entry>();
  /** Which host a node is on, as it has said itself. */
  readonly #hosts = new Map<NodeId, string>();

  /** `hostId`: that of this host, as in `Hello`. */
  constructor(self: NodeId, hostId: string) {
    this.#self = self;
    this.#hostId = hostId;
  }

  /**
   * Somebody tells where a node listens. As long as nobody knows which host it is on, its loopback
   * addresses are only tried if it has no others.
   */
  learn(peer: NodeId, addresses: readonly string[], now: number): void {
    if (peer === this.#self || this.#isFullFor(peer)) return;
    for (const address of this.#worthTrying(addresses, this.#hosts.get(peer))) {
      const known = this.#entries.get(keyOf(peer, address));
      if (known) known.toldAt = now;
      else if (this.#hasRoom(peer)) this.#add(peer, address, now);
    }
  }

  /** A node says itself where it is: it is nowhere else. */
  introduced(peer: NodeId, { hostId, addresses }: Hello, now: number): void {
    if (peer === this.#self || this.#isFullFor(peer)) return;
    this.#hosts.set(peer, hostId);
    this.learn(peer, addresses, now);
    const wanted = this.#worthTrying(addresses, hostId);
    for (const entry of this.#of(peer)) {
      const isLeft = entry.state === "linked" && this.isWanted(peer, entry.address);
      if (!isLeft && !wanted.includes(entry.address)) this.#remove(entry);
    }
  }

  /** Whether a link to this address of the node counts, as far as its host is known. */
  isWanted(peer: NodeId, address: string): boolean {
    return this.#worthTrying([address], this.#hosts.get(peer)).length > 0;
  }

  /** What is to be dialled now; each is under way from here on. */
  due(now: number): { readonly peer: NodeId; readonly address: string }[] {
    const due: Entry[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.state !== "idle") continue;
      // A node that is linked elsewhere still says that it listens here, too: a cable may be out.
      if (now > entry.toldAt + FORGET_MS && this.#isLinked(entry.peer)) entry.toldAt = now;
      if (now > entry.toldAt + FORGET_MS) this.#remove(entry);
      else if (now >= entry.dueAt) due.push(entry);
    }
    for (const entry of due) entry.state = "dialling";
    return due.map(({ peer, address }) => ({ peer, address }));
  }

  /** The node was reached there. */
  linked(peer: NodeId, address: string, now: number): void {
    const entry = this.#entries.get(keyOf(peer, address)) ?? this.#add(peer, address, now);
    entry.state = "linked";
    entry.isProven = true;
    entry.failures = 0;
  }

  /** The link is gone: it may come back. */
  unlinked(peer: NodeId, address: string, now: number): void {
    const entry = this.#entries.get(keyOf(peer, address));
    if (!entry) return;
    entry.state = "idle";
    entry.toldAt = now;
    entry.dueAt = now;
  }

  /** Somebody else answers there: the node has left it, or never was there. */
  mistaken(peer: NodeId, address: string, now: number): void {
    const entry = this.#entries.get(keyOf(peer, address));
    if (entry) entry.isProven = false;
    this.failed(peer, address, now);
  }

  /** Nobody answered there. */
  failed(peer: NodeId, address: string, now: number): void {
    const entry = this.#entries.get(keyOf(peer, address));
    if (entry?.state !== "dialling") return;
    entry.state = "idle";
    const doubled = Math.min(RETRY_MS * 2 ** entry.failures, RETRY_MS_MAX);
    entry.failures++;
    entry.dueAt = now + (entry.isProven ? RETRY_PROVEN_MS : doubled);
  }

  /** Nodes of one host reach each other over loopback, which never leads to another host. */
  #worthTrying(addresses: readonly string[], hostId: string | undefined): string[] {
    const ways = addresses.slice(0, ADDRESSES_MAX).filter((address) => parseMultiaddr(address));
    const inside = ways.filter(isLoopback);
    const outside = ways.filter((address) => !isLoopback(address));
    if (hostId === undefined) return outside.length > 0 ? outside : inside;
    return hostId === this.#hostId ? inside : outside;
  }

  #add(peer: NodeId, address: string, now: number): Entry {
    const entry: Entry = {
      peer,
      address,
      toldAt: now,
      dueAt: now,
      failures: 0,
      isProven: false,
      state: "idle",
    };
    this.#entries.set(keyOf(peer, address), entry);
    return entry;
  }

  #isFullFor(peer: NodeId): boolean {
    return this.#entries.size >= ENTRIES_MAX && this.#of(peer).length === 0;
  }

  /** Whether a node may have one more address; the one told of longest ago makes room. */
  #hasRoom(peer: NodeId): boolean {
    const known = this.#of(peer);
    if (known.length < ADDRESSES_MAX) return true;
    const [oldest] = known.filter(({ state }) => state === "idle")
      .sort((a, b) => a.toldAt - b.toldAt);
    if (oldest) this.#entries.delete(keyOf(peer, oldest.address));
    return oldest !== undefined;
  }

  #isLinked(peer: NodeId): boolean {
    return this.#of(peer).some(({ state }) => state === "linked");
  }

  #of(peer: NodeId): Entry[] {
    return [...this.#entries.values()].filter((entry) => entry.peer === peer);
  }

  #remove({ peer, address }: Entry): void {
    this.#entries.delete(keyOf(peer, address));
    if (this.#of(peer).length === 0) this.#hosts.delete(peer);
  }
}

function keyOf(peer: NodeId, address: string): string {
  return `${peer} ${address}`;
}

/** Whether an address leads to its own host only. */
export function isLoopback(address: string): boolean {
  const host = parseMultiaddr(address)?.host ?? "";
  return /^127\./.test(host) || host === "::1" || host === "localhost";
}

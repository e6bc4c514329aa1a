import type { NodeId } from "../core/ids.ts";
import { parseMultiaddr } from "../core/multiaddr.ts";
import { ADDRESSES_MAX } from "./link_frames.ts";

/** Wait before an address is tried again that was proven before: its cable may be back. */
export const RETRY_PROVEN_MS = 500;

/** The first wait before an address is tried again that was never proven; each doubles it. */
export const RETRY_MS = 1_000;

/** The longest of these waits. */
export const RETRY_MS_MAX = 15_000;

/** Addresses of a node that was not heard of for so long are forgotten. */
export const FORGET_MS = 10 * 60_000;

/** Nodes whose addresses are kept. */
export const PEERS_MAX = 4_096;

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

  /** `hostId`: that of this host, as in `Hello`. */
  constructor(self: NodeId, hostId: string) {
    this.#self = self;
    this.#hostId = hostId;
  }

  /**
   * Somebody tells where a node listens. `hostId` absent: nobody knows which host it is on; then its
   * loopback addresses are only tried if it has no others.
   */
  learn(peer: NodeId, addresses: readonly string[], now: number, hostId?: string): void {
    if (peer === this.#self || this.#isFullFor(peer)) return;
    const wanted = this.#worthTrying(addresses, hostId);
    for (const address of wanted) {
      const known = this.#entries.get(keyOf(peer, address));
      if (known) known.toldAt = now;
      else this.#add(peer, address, now);
    }
    if (hostId === undefined) return;
    // The node itself has spoken: it is nowhere else.
    for (const entry of this.#of(peer)) {
      if (!wanted.includes(entry.address) && entry.state === "idle") this.#remove(entry);
    }
  }

  /** Whether a link to this address of the node counts, now that its host is known. */
  isWanted(address: string, hostId: string): boolean {
    return this.#worthTrying([address], hostId).length > 0;
  }

  /** What is to be dialled now; each is under way from here on. */
  due(now: number): { readonly peer: NodeId; readonly address: string }[] {
    const due: Entry[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.state !== "idle") continue;
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

  /** Nobody answered there, or somebody else. */
  failed(peer: NodeId, address: string, now: number): void {
    const entry = this.#entries.get(keyOf(peer, address));
    if (!entry) return;
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
    if (this.#entries.size < PEERS_MAX) return false;
    return !this.#of(peer).next().value;
  }

  *#of(peer: NodeId): Generator<Entry> {
    for (const entry of [...this.#entries.values()]) if (entry.peer === peer) yield entry;
  }

  #remove({ peer, address }: Entry): void {
    this.#entries.delete(keyOf(peer, address));
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

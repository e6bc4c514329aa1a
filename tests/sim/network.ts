import type { Random } from "../support/random.ts";
import type { Marks } from "./marks.ts";
import type { Schedule } from "./schedule.ts";

/** One direction between two nodes. */
export interface Link {
  isUp: boolean;
  lossRatio: number;
  duplicateRatio: number;
  /** Messages overtake each other by up to this. */
  reorderMs: number;
  delayMs: number;
  jitterMs: number;
  lastArrival: number;
}

const HEALTHY = {
  isUp: true,
  lossRatio: 0,
  duplicateRatio: 0,
  reorderMs: 0,
  delayMs: 1,
  jitterMs: 3,
} as const;

/** How long it takes until a broken connection is noticed, and until a new one is made. */
const BREAK_NOTICED_MS = [50, 4_000] as const;
const CONNECT_MS = [50, 1_500] as const;

/** What the network tells a node. */
export interface Endpoint {
  readonly isUp: boolean;
  peerConnected(peer: number): void;
  peerDisconnected(peer: number): void;
}

/** Links between nodes by number, each with faults of its own, and who is connected to whom. */
export class Network {
  readonly #links: Link[][] = [];
  /** `#sees[a][b]`: a takes itself to be connected to b. */
  readonly #sees: boolean[][] = [];
  readonly #endpoints: Endpoint[] = [];
  sent = 0;

  constructor(
    readonly schedule: Schedule,
    readonly random: Random,
    readonly marks: Marks,
  ) {}

  /** A machine with links to all others; its number. */
  add(endpoint: Endpoint): number {
    const me = this.#endpoints.push(endpoint) - 1;
    this.#links.push([]);
    this.#sees.push([]);
    for (let other = 0; other <= me; other++) {
      (this.#links[me] as Link[])[other] = { ...HEALTHY, lastArrival: 0 };
      (this.#links[other] as Link[])[me] = { ...HEALTHY, lastArrival: 0 };
    }
    return me;
  }

  link(from: number, to: number): Link {
    return (this.#links[from] as Link[])[to] as Link;
  }

  isConnected(from: number, to: number): boolean {
    return this.#sees[from]?.[to] === true;
  }

  /** Those that `node` takes itself to be connected to. */
  peersOf(node: number): number[] {
    return this.#endpoints.map((_, peer) => peer).filter((peer) => this.isConnected(node, peer));
  }

  /** Whether a stream between two machines works, both ways. */
  isOpen(a: number, b: number): boolean {
    if (a === b) return true;
    return this.link(a, b).isUp && this.link(b, a).isUp && this.isConnected(a, b) &&
      this.isConnected(b, a);
  }

  /** Best effort: it arrives once, twice, late or never. */
  send(from: number, to: number, arrive: () => void): void {
    if (!this.isConnected(from, to)) return;
    const link = this.link(from, to);
    this.sent++;
    if (!link.isUp) return;
    if (this.random.next() < link.lossRatio) return this.marks.hit("fault: message dropped");
    this.#carry(link, arrive);
    if (this.random.next() < link.duplicateRatio) {
      this.marks.hit("fault: message duplicated");
      this.#carry(link, arrive);
    }
  }

  #carry(link: Link, arrive: () => void): void {
    const { schedule, random } = this;
    if (link.delayMs > 100) this.marks.hit("fault: link delayed");
    let arrival = schedule.now + link.delayMs + random.below(link.jitterMs + 1);
    if (link.reorderMs > 0) {
      arrival += random.below(link.reorderMs + 1);
      if (arrival < link.lastArrival) this.marks.hit("fault: message reordered");
    } else arrival = Math.max(arrival, link.lastArrival);
    link.lastArrival = Math.max(link.lastArrival, arrival);
    schedule.at(arrival, () => link.isUp && arrive());
  }

  /** A process has started: what others had open to the one before it breaks. */
  started(node: number): void {
    this.#sees[node] = [];
    for (const [peer, endpoint] of this.#endpoints.entries()) {
      if (peer === node) continue;
      if (this.isConnected(peer, node)) {
        (this.#sees[peer] as boolean[])[node] = false;
        if (endpoint.isUp) endpoint.peerDisconnected(node);
      }
      this.review(node, peer);
    }
  }

  /** A process has ended: the others notice sooner or later. */
  stopped(node: number): void {
    this.#sees[node] = [];
    for (const peer of this.#endpoints.keys()) if (peer !== node) this.review(node, peer);
  }

  /** Looks whether two machines are connected as they can be; both learn of changes in time. */
  review(a: number, b: number): void {
    const usable = this.#isUsable(a, b);
    const [low, high] = usable ? CONNECT_MS : BREAK_NOTICED_MS;
    const both = low + this.random.below(high - low);
    for (const [me, peer] of [[a, b], [b, a]] as const) {
      const delay = usable ? both : low + this.random.below(high - low);
      this.schedule.after(delay, () => this.#notice(me, peer, usable));
    }
  }

  #notice(me: number, peer: number, usable: boolean): void {
    const endpoint = this.#endpoints[me] as Endpoint;
    if (!endpoint.isUp || this.#isUsable(me, peer) !== usable) return;
    if (this.isConnected(me, peer) === usable) return;
    (this.#sees[me] as boolean[])[peer] = usable;
    if (usable) endpoint.peerConnected(peer);
    else endpoint.peerDisconnected(peer);
  }

  /** A connection that works in one direction only is not given up: that is the worst case. */
  #isUsable(a: number, b: number): boolean {
    const [x, y] = [this.#endpoints[a] as Endpoint, this.#endpoints[b] as Endpoint];
    return x.isUp && y.isUp && (this.link(a, b).isUp || this.link(b, a).isUp);
  }

  /** Changes one direction. */
  change(from: number, to: number, fault: Partial<Omit<Link, "lastArrival">>): void {
    Object.assign(this.link(from, to), fault);
    this.review(from, to);
  }

  /** All links as they should be. */
  heal(): void {
    for (const from of this.#endpoints.keys()) {
      for (const to of this.#endpoints.keys()) {
        Object.assign(this.link(from, to), HEALTHY);
        if (from < to) this.review(from, to);
      }
    }
  }
}

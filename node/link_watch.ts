import { getLogger } from "@logtape/logtape";
import { type BandwidthTurn, dueLink } from "../core/bandwidth_turns.ts";
import type { Event } from "../core/events.ts";
import { edgeSubject } from "../core/facts.ts";
import type { NodeId } from "../core/ids.ts";
import { linkKey, type LinkQuality } from "../core/telemetry.ts";
import type { Bulk } from "../net/bulk.ts";
import type { Link, PeerChange, Transport } from "../net/transport.ts";
import type { Clock } from "./clock.ts";
import type { ControlPlane } from "./control_plane.ts";
import type { Reporter } from "./reporter.ts";

const log = getLogger(["exo", "links"]);

/** How often round-trip times are looked at, and whether a bandwidth is due. */
export const LOOK_MS = 2_000;

/** A round-trip time is news when it is so much more or less than the one that was told. */
const LATENCY_CHANGE = 0.25;

/** Below this a difference of round-trip times is noise. */
const LATENCY_NOISE_MS = 0.2;

/** What a link watch works with. */
export interface LinkWatchDeps {
  readonly nodeId: NodeId;
  readonly transport: Pick<Transport, "links" | "onLinks" | "onPeer" | "peers">;
  readonly reporter: Pick<Reporter, "report" | "retract" | "reach">;
  readonly control: Pick<ControlPlane, "measured">;
  readonly bulk: Pick<Bulk, "measureBandwidth">;
  readonly clock: Clock;
}

interface Watched {
  readonly link: Link;
  turn: BandwidthTurn;
  quality: LinkQuality;
}

/** Tells the cluster of the proven ways from this node, and how good they are. */
export class LinkWatch {
  readonly #deps: LinkWatchDeps;
  readonly #watched = new Map<string, Watched>();
  readonly #stops: (() => void)[] = [];
  #isMeasuring = false;

  constructor(deps: LinkWatchDeps) {
    this.#deps = deps;
  }

  start(): void {
    const timer = setInterval(() => this.#look(), LOOK_MS);
    const { transport } = this.#deps;
    for (const peer of transport.peers()) log.info("connected with node {peer}", { peer });
    this.#stops.push(
      transport.onLinks(() => this.#sync()),
      transport.onPeer((change) => this.#tell(change)),
      () => clearInterval(timer),
    );
    this.#sync();
  }

  #tell({ peer, isConnected }: PeerChange): void {
    log.info(isConnected ? "connected with node {peer}" : "lost node {peer}", { peer });
    this.#deps.reporter.reach(peer, isConnected);
  }

  stop(): void {
    for (const stop of this.#stops) stop();
    this.#watched.clear();
  }

  /** New links become edges, and those that are gone are taken back. */
  #sync(): void {
    const { transport, reporter, clock } = this.#deps;
    const links = new Map(transport.links().map((link) => [this.#keyOf(link), link]));
    for (const [key, { link }] of this.#watched) {
      if (links.has(key)) continue;
      this.#watched.delete(key);
      reporter.retract(edgeSubject(this.#connection(link)));
    }
    for (const [key, link] of links) {
      if (this.#watched.has(key)) continue;
      const turn = { key, since: clock.uptime(), jitter: clock.random() };
      this.#watched.set(key, { link, turn, quality: {} });
      void reporter.report({ type: "TopologyEdgeCreated", connection: this.#connection(link) });
    }
  }

  #look(): void {
    const told = new Map<string, LinkQuality>();
    for (const link of this.#deps.transport.links()) {
      const key = this.#keyOf(link);
      const watched = this.#watched.get(key);
      if (!watched || !isLatencyNews(watched.quality.latencyMs, link.rttMs)) continue;
      watched.quality = { ...watched.quality, latencyMs: link.rttMs };
      told.set(key, watched.quality);
    }
    if (told.size > 0) this.#deps.control.measured({ links: told });
    if (!this.#isMeasuring) void this.#measure();
  }

  /** The bandwidth of the link whose turn it is. */
  async #measure(): Promise<void> {
    const { bulk, clock, control } = this.#deps;
    const turns = [...this.#watched.values()].map(({ turn }) => turn);
    const due = dueLink(turns, clock.uptime());
    const watched = due && this.#watched.get(due.key);
    if (!watched) return;
    watched.turn = { ...watched.turn, measuredAt: clock.uptime(), jitter: clock.random() };
    this.#isMeasuring = true;
    try {
      const bandwidthBitsPerSecond = await bulk.measureBandwidth(watched.link);
      // A link that has gone since has no quality any more.
      if (this.#watched.get(watched.turn.key) !== watched) return;
      watched.turn = { ...watched.turn, failures: 0 };
      watched.quality = { ...watched.quality, bandwidthBitsPerSecond };
      control.measured({ links: new Map([[watched.turn.key, watched.quality]]) });
    } catch (cause) {
      const { failures = 0 } = watched.turn;
      watched.turn = { ...watched.turn, measuredAt: clock.uptime(), failures: failures + 1 };
      log.debug("cannot measure the link {key}: {reason}", {
        key: watched.turn.key,
        reason: String(cause),
      });
    } finally {
      this.#isMeasuring = false;
    }
  }

  #keyOf({ peer, address }: Link): string {
    const edge = { type: "SocketConnection" as const, sinkMultiaddr: address };
    return linkKey(this.#deps.nodeId, peer, edge);
  }

  #connection(
    { peer, address }: Link,
  ): Extract<Event, { type: "TopologyEdgeCreated" }>["connection"] {
    const edge = { type: "SocketConnection" as const, sinkMultiaddr: address };
    return { source: this.#deps.nodeId, sink: peer, edge };
  }
}

function isLatencyNews(told: number | undefined, rttMs: number | undefined): boolean {
  if (rttMs === undefined) return false;
  if (told === undefined) return true;
  const difference = Math.abs(rttMs - told);
  return difference > LATENCY_NOISE_MS && difference > told * LATENCY_CHANGE;
}

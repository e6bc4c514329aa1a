import assert from "node:assert/strict";
import type { ClusterNode } from "../support/cluster_node.ts";

interface Reign {
  readonly clock: number;
  readonly nodeId: string;
}

/** What `GET /events` tells of a merge; its fields are in `snake_case`. */
interface Told {
  readonly LineageMerged?: {
    readonly segments: readonly {
      readonly epoch: { readonly clock: number; readonly node_id: string };
    }[];
  };
}

/** Pages of events since a fork, and requests for one that the log has dropped by then. */
const REQUESTS_MAX = 20;

/** Two histories that go on from one: each side of a partition has a master and its own events. */
export class Fork {
  readonly #sides: readonly ClusterNode[];
  readonly #reigns: readonly Reign[];
  readonly #since: number;
  #isMerged = false;

  private constructor(sides: readonly ClusterNode[], reigns: readonly Reign[], since: number) {
    this.#sides = sides;
    this.#reigns = reigns;
    this.#since = since;
  }

  /** That of nodes whose sides cannot hear each other now. */
  static async between(sides: readonly ClusterNode[]): Promise<Fork> {
    const states = await Promise.all(sides.map((side) => side.state()));
    const reigns = states.map(({ session }) => {
      assert.ok(session, "each side has a master");
      return { clock: session.epoch, nodeId: session.masterNodeId };
    });
    const masters = new Set(reigns.map(({ nodeId }) => nodeId));
    assert.equal(masters.size, sides.length, `each side has a master of its own: ${[...masters]}`);
    const since = Math.min(...states.map(({ lastEventAppliedIdx }) => lastEventAppliedIdx));
    return new Fork(sides, reigns, since);
  }

  /** Whether an event since has brought the history of one side into that of another. */
  async isMerged(): Promise<boolean> {
    for (const side of this.#isMerged ? [] : this.#sides) {
      const events = await eventsOf(side, this.#since);
      this.#isMerged ||= events.some(({ LineageMerged }) =>
        LineageMerged?.segments.some(({ epoch }) => this.#hadReign(epoch.clock, epoch.node_id))
      );
    }
    return this.#isMerged;
  }

  #hadReign(clock: number, nodeId: string): boolean {
    return this.#reigns.some((reign) => reign.clock === clock && reign.nodeId === nodeId);
  }

  toString(): string {
    return this.#reigns.map(({ clock, nodeId }) => `epoch ${clock} of ${nodeId}`).join(" and ");
  }
}

/** All events that a node has from an index on; a log that begins later is read from there. */
async function eventsOf({ client: { url } }: ClusterNode, since: number): Promise<Told[]> {
  const events: Told[] = [];
  let from = since;
  for (let request = 0; request < REQUESTS_MAX; request++) {
    const page = await fetch(`${url}/events?since=${from}`);
    if (page.status === 410) {
      await page.body?.cancel();
      from = Number(page.headers.get("x-exo-oldest-idx"));
      continue;
    }
    assert.ok(page.ok, `GET /events: ${page.status}`);
    const told: Told[] = await page.json();
    if (told.length === 0) return events;
    events.push(...told);
    from += told.length;
  }
  throw new Error(`Cannot read the events from ${since} on: ${REQUESTS_MAX} pages are not all`);
}

/** What every transport tells of its peers and links; part of the suite in `transport.ts`. */
import assert from "node:assert/strict";
import type { PeerChange, Transport } from "../../net/transport.ts";
import { eventually } from "../support/eventually.ts";
import type { PairTest } from "./transport.ts";

const hasLinkTo = (from: Transport, to: Transport) =>
  from.links().some(({ peer }) => peer === to.self);

/** Declares the tests of peers and links. */
export function peerConformance(test: PairTest): void {
  test("each sees the other as a peer, with a link to it, and not itself", async ({ a, b }) => {
    for (const [from, to] of [[a, b], [b, a]] as const) {
      await eventually("the link is proven", () => hasLinkTo(from, to));
      assert.deepEqual([...from.peers()], [to.self]);
      for (const { peer, address, rttMs } of from.links()) {
        assert.equal(peer, to.self);
        assert.match(address, /^\/[^/]+\/[^/]+/, "a multiaddr");
        assert.ok(rttMs === undefined || rttMs >= 0, `${rttMs} ms`);
      }
    }
  });

  test("when a node closes, its peers and links go, and those who listen hear", async (pair) => {
    const { a, b } = pair;
    await eventually("the link is proven", () => hasLinkTo(a, b));
    const changes: PeerChange[] = [];
    const seen: (readonly [peers: number, links: number])[] = [];
    a.onPeer((change) => {
      changes.push(change);
      assert.equal(a.peers().size, 0, "it hears after the change");
    });
    a.onLinks(() => seen.push([a.peers().size, a.links().length]));
    let unwanted = 0;
    a.onPeer(() => unwanted++)();
    a.onLinks(() => unwanted++)();
    await b.close();
    await eventually("the link is gone, too", () => a.links().length === 0 && seen.length > 0);
    assert.deepEqual(changes, [{ peer: b.self, isConnected: false }]);
    assert.deepEqual([...a.peers()], []);
    assert.equal(seen.at(-1)?.[1], 0, "it is called after the change");
    assert.equal(unwanted, 0);
  });

  test("a node that has closed has neither peers nor links", async ({ a }) => {
    await a.close();
    assert.deepEqual([[...a.peers()], [...a.links()]], [[], []]);
  });
}

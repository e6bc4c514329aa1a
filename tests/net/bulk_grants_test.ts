import assert from "node:assert/strict";
import { BulkGrants } from "../../net/bulk_grants.ts";
import { GRANTS_MAX, GRANTS_PER_PEER_MAX } from "../../net/bulk_messages.ts";
import { rejects } from "../support/rejects.ts";

const purpose = { type: "Measure" } as const;

Deno.test("a token is good once, and until it expires", () => {
  const grants = new BulkGrants();
  for (const token of ["x", "y", "z"]) grants.add(token, { peer: "a", purpose, expiresAt: 10 }, 0);
  assert.equal(grants.take("w", 1), undefined);
  assert.equal(grants.take("x", 9), purpose);
  assert.equal(grants.take("x", 9), undefined);
  assert.equal(grants.take("y", 10), undefined);
  assert.equal(grants.take("y", 9), undefined);
});

Deno.test("a peer has a few tokens at once, all peers together some more", () => {
  const grants = new BulkGrants();
  const fill = (peer: string, count: number, now: number) => {
    for (let n = 0; n < count; n++) {
      grants.add(`${peer}${n}`, { peer, purpose, expiresAt: now + 10 }, now);
    }
  };
  fill("a", GRANTS_PER_PEER_MAX, 0);
  rejects(() => fill("a", 1, 0), "queue_full", /8 transfers wait .* 8 of them/);
  for (let n = 1; n * GRANTS_PER_PEER_MAX < GRANTS_MAX; n++) fill(`b${n}-`, GRANTS_PER_PEER_MAX, 0);
  rejects(() => fill("c", 1, 0), "queue_full", /64 transfers wait .* 0 of them/);
  grants.take("a0", 1);
  fill("d", 1, 1);
  // What has expired makes room.
  fill("e", GRANTS_PER_PEER_MAX, 10);
  assert.equal(grants.take("e0", 11), purpose);
});

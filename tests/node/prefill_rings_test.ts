/** Where the rings of a node lie, and how large they are. */
import assert from "node:assert/strict";
import { RING_BYTES_MIN } from "../../core/ring.ts";
import { MIB } from "../../core/units.ts";
import { PrefillRings, RING_BYTES } from "../../node/prefill_rings.ts";
import { TempDir } from "../support/temp_dir.ts";

Deno.test("a ring is as large as there is room for, in memory or else on the disk", async () => {
  await using dir = await TempDir.make();
  const dirs = ["memory", "disk"].map((name) => `${dir.path}/${name}`);
  for (const one of dirs) Deno.mkdirSync(one);
  // As Docker gives it, if nothing else is said.
  const free = new Map([[dirs[0], 64 * MIB], [dirs[1], 100 * 1024 * MIB]]);
  using rings = new PrefillRings({ dirs, freeBytes: (place) => free.get(place) ?? 0 });
  const given = ["a", "b", "c", "d"].map((name) => rings.next(name));
  const told = given.map(({ path, bytes }) => [path.split("/").at(-3), bytes / MIB]);
  assert.deepEqual(told, [["memory", 32], ["memory", 16], ["memory", 8], [
    "disk",
    RING_BYTES / MIB,
  ]]);
  for (const ring of given) rings.release(ring);
  assert.equal(rings.next("e").bytes, 32 * MIB);
});

Deno.test("where there is no room at all, a ring is as small as can be", async () => {
  await using dir = await TempDir.make();
  using rings = new PrefillRings({ dirs: [`${dir.path}/none`, dir.path], freeBytes: () => 0 });
  const ring = rings.next("a");
  assert.equal(ring.bytes, RING_BYTES_MIN);
  Deno.writeTextFileSync(ring.path, "bytes");
  rings.remove(ring);
  assert.throws(() => Deno.statSync(ring.path), Deno.errors.NotFound);
});

Deno.test("by itself a node has its rings where others cannot look into them", () => {
  using rings = new PrefillRings();
  const { path, bytes } = rings.next("a");
  assert.ok(bytes >= RING_BYTES_MIN && bytes <= RING_BYTES);
  assert.equal((Deno.statSync(path.replace(/\/a$/, "")).mode ?? 0) & 0o777, 0o700);
});

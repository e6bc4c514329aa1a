/**
 * What every group must do: the suite that all of them run, each rank a process of its own.
 *
 * @module
 */
import { deepEqual, equal, match } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { bodyOf, Peer, PeerRing, seen, type SeenFrame } from "../support/group_peer.ts";

/** The program of a rank. */
export interface GroupTraits {
  /** What the suite's tests are called after. */
  readonly name: string;
  /** The path of a program that calls `runPeer`, and does `sumOf` for the extra `sum`. */
  readonly main: string;
}

const NAMES = ["studio", "mini", "attic", "böhm"] as const;

/** Most time until a rank is named whose process is gone. */
const GONE_MS = 2_000;
/** Most time until a rank is named that says nothing any more. */
const SILENT_MS = 6_000;
/** How long a rank waits that should not have to. */
const LONG_MS = 30_000;
/** More than the buffers of a connection hold. */
const LARGE_BYTES = 24 << 20;

const base64 = (bytes: Uint8Array | string) => Buffer.from(bytes).toString("base64");

const receive = (peer: Peer, ms = LONG_MS) => peer.ask<SeenFrame | null>({ type: "receive", ms });

/** A frame with a header and a body, as the next rank should see it. */
function frameOf(header: Uint8Array | string, bodyBytes = 0): SeenFrame {
  return seen(Buffer.concat([Buffer.from(header), bodyOf(bodyBytes)]));
}

const send = (peer: Peer, header: Uint8Array | string, bodyBytes?: number) =>
  peer.ask({
    type: "send",
    header: base64(header),
    ...(bodyBytes === undefined ? {} : { bodyBytes }),
  });

/** Registers the suite. */
export function testGroup({ name, main }: GroupTraits): void {
  const ringOf = (size: number) => PeerRing.start(main, NAMES.slice(0, size));

  for (const size of [2, 3, 4]) {
    Deno.test(`${name}: frames pass round ${size} ranks in order`, async () => {
      await using ring = await ringOf(size);
      for (let i = 0; i < 20; i++) {
        await Promise.all(ring.peers.map((peer, rank) => send(peer, `${rank}/${i}`, i * 1_000)));
      }
      for (const [rank, peer] of ring.peers.entries()) {
        for (let i = 0; i < 20; i++) {
          const previous = (rank + size - 1) % size;
          deepEqual(await receive(peer), frameOf(`${previous}/${i}`, i * 1_000));
        }
        equal(await receive(peer, 0), null, "a frame that nobody sent");
      }
    });
  }

  Deno.test(`${name}: frames are bytes: none is special, and there may be few or none`, async () => {
    await using ring = await ringOf(2);
    const headers = [
      Uint8Array.from({ length: 512 }, (_, i) => i),
      Uint8Array.of(0),
      Uint8Array.of(255, 10, 13, 0, 26),
      new Uint8Array(),
    ];
    for (const header of headers) {
      await send(ring.at(0), header);
      deepEqual(await receive(ring.at(1)), frameOf(header));
    }
    await send(ring.at(0), "", 7);
    deepEqual(await receive(ring.at(1)), frameOf("", 7));
  });

  Deno.test(`${name}: large frames pass each other both ways`, async () => {
    await using ring = await ringOf(2);
    // Each has sent before any receives: a group that waits for the other end would wait for ever.
    await Promise.all(ring.peers.map((peer) => send(peer, "x", LARGE_BYTES)));
    const expected = frameOf("x", LARGE_BYTES);
    for (const peer of ring.peers) deepEqual(await receive(peer), expected);
  });

  Deno.test(`${name}: to wait for a frame has a limit, and an arrival ends a rest`, async () => {
    await using ring = await ringOf(2);
    equal(await receive(ring.at(0), 50), null);
    const arrival = ring.at(1).ask({ type: "arrival" });
    await send(ring.at(0), "wake up");
    await arrival;
    deepEqual(await receive(ring.at(1), 0), frameOf("wake up"));
    await send(ring.at(0), "again");
    deepEqual(await receive(ring.at(1)), frameOf("again"));
    const next = ring.at(1).ask({ type: "arrival" }); // What was taken is no arrival.
    await send(ring.at(0), "once more");
    await next;
    deepEqual(await receive(ring.at(1)), frameOf("once more"));
  });

  Deno.test(`${name}: all ranks have the sum, of either type, while frames are on their way`, async () => {
    await using ring = await ringOf(3);
    const rest = ring.at(1).ask({ type: "arrival" }); // Awaits a frame all the time.
    await send(ring.at(1), "before", 70_000);
    for (const [dtype, count] of [["float32", 100_000], ["bfloat16", 40]] as const) {
      const sums = await Promise.all(
        ring.peers.map((peer) =>
          peer.ask<number[]>({ type: "extra", name: "sum", options: { count, dtype } })
        ),
      );
      // Over the ranks: at × (1 + 2 + 3) + 3, and half of it.
      const expected = Array.from({ length: count }, (_, at) => 3 * at + 1.5);
      for (const sum of sums) deepEqual(sum, expected);
    }
    deepEqual(await receive(ring.at(2)), frameOf("before", 70_000));
    await send(ring.at(0), "after");
    await rest;
    deepEqual(await receive(ring.at(1)), frameOf("after"));
  });

  Deno.test(`${name}: a rank that leaves ends its own wait, and is named by the others`, async () => {
    await using ring = await ringOf(3);
    const rest = ring.at(1).ask({ type: "arrival" });
    const waits = [0, 2].map((rank) =>
      ring.at(rank).refusal({ type: "receive", ms: LONG_MS }, GONE_MS)
    );
    await ring.at(1).ask({ type: "dispose" });
    await rest;
    for (const message of await Promise.all(waits)) match(message, /^Rank 1 on "mini" has/);
  });

  Deno.test(`${name}: a rank whose process dies is named by all others at once`, async () => {
    await using ring = await ringOf(4);
    const rest = ring.at(3).ask({ type: "arrival" });
    const waits = [0, 1].map((rank) =>
      ring.at(rank).refusal({ type: "receive", ms: LONG_MS }, GONE_MS)
    );
    ring.at(2).kill("SIGKILL");
    await rest;
    waits.push(ring.at(3).refusal({ type: "receive", ms: 0 }, GONE_MS));
    for (const message of await Promise.all(waits)) match(message, /^Rank 2 on "attic" has closed/);
    for (const rank of [0, 1, 3]) {
      const later = await ring.at(rank).refusal({ type: "send", header: "" });
      match(later, /^Rank 2 on "attic" has closed/);
    }
  });

  Deno.test(`${name}: a rank that is silent is named by those who wait`, async () => {
    await using ring = await ringOf(3);
    const [before, after] = [ring.at(0), ring.at(2)];
    const began = performance.now();
    ring.at(1).kill("SIGSTOP");
    const rest = after.ask({ type: "arrival" });
    const message = await before.refusal({ type: "receive", ms: LONG_MS }, SILENT_MS);
    match(message, /^Rank 1 on "mini" has been silent for \d+ s/);
    await rest;
    equal(performance.now() - began < SILENT_MS, true, "too late");
    match(await after.refusal({ type: "receive", ms: 0 }), /^Rank 1 on "mini"/);
  });
}

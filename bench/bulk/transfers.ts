import { join } from "node:path";
import { NodeId } from "../../core/ids.ts";
import { Bulk, type Offered } from "../../net/bulk.ts";
import { BLOCK_BYTES } from "../../net/bulk_messages.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { lagDuring } from "./lag.ts";

const [FROM, TO] = [NodeId.parse("from"), NodeId.parse("to")];

/** Where the receiver finds the sender. */
const LINK = { peer: FROM, address: "/ip4/127.0.0.1/tcp/1" };

/** Bytes a second, and for how long the main thread was away at most while they went. */
export interface Transfer {
  readonly bytesPerSecond: number;
  readonly lagMs: number;
}

/** How bytes go, by the names of the ways. */
export type Transfers = Readonly<Record<"memory to blocks" | "file to file", Transfer>>;

/**
 * Sends `bytes` over loopback from a node to another, both in this process, each with a thread of
 * its own for the bytes; and asks how fast the link is.
 */
export async function bulkTransfers(
  scratch: string,
  bytes: number,
): Promise<{ transfers: Transfers; measuredBitsPerSecond: number }> {
  const network = new MemoryNetwork();
  const newToken = () => crypto.randomUUID();
  const [from, to] = [FROM, TO].map((id) => new Bulk(network.join(id), { newToken })) as [
    Bulk,
    Bulk,
  ];
  try {
    // Threads and the door come with the first transfer.
    const measuredBitsPerSecond = await to.measureBandwidth(LINK);
    const path = join(scratch, "bulk-from");
    const memory = new Uint8Array(new SharedArrayBuffer(bytes));
    await writeZeros(path, bytes);
    const go = (what: Offered, into: Parameters<Bulk["receive"]>[2]) =>
      timed(bytes, async () => {
        const { offerId, withdraw } = await from.offer(TO, what);
        await to.receive(LINK, offerId, into);
        withdraw();
      });
    const transfers = {
      "memory to blocks": await go({ bytes: memory }, () => {}),
      "file to file": await go({ path }, join(scratch, "bulk-to")),
    };
    return { transfers, measuredBitsPerSecond };
  } finally {
    from.close();
    to.close();
  }
}

/** In pieces: memory of that size, given back meanwhile, would show as lag. */
async function writeZeros(path: string, bytes: number): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const piece = new Uint8Array(BLOCK_BYTES);
  for (let left = bytes; left > 0;) {
    left -= await file.write(piece.subarray(0, Math.min(left, piece.length)));
  }
}

/** How fast `work` moves so many bytes. */
export async function timed(bytes: number, work: () => Promise<void>): Promise<Transfer> {
  const startedAt = performance.now();
  const lagMs = await lagDuring(work);
  return { bytesPerSecond: bytes * 1_000 / (performance.now() - startedAt), lagMs };
}

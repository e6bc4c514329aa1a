import { noise } from "@libp2p/noise";
import { yamux } from "@libp2p/yamux";
import type { Libp2p, Stream } from "@libp2p/interface";
import { tcp } from "@libp2p/tcp";
import { createLibp2p } from "libp2p";
import { timed, type Transfer } from "./transfers.ts";

const PROTOCOL = "/exo/bench/1";
const BLOCK_BYTES = 64 * 1024;

/** Sends `bytes` over a libp2p stream on loopback, both ends in this thread. */
export async function streamTransfer(bytes: number): Promise<Transfer> {
  const [from, to] = [await startNode(), await startNode()];
  const arrived = Promise.withResolvers<void>();
  try {
    await to.handle(PROTOCOL, async (stream) => {
      let left = bytes;
      for await (const piece of stream) {
        left -= piece.byteLength;
        if (left <= 0) arrived.resolve();
      }
    });
    const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL);
    return await timed(bytes, async () => {
      await sendZeros(stream, bytes);
      await arrived.promise;
    });
  } finally {
    await Promise.all([from.stop(), to.stop()]);
  }
}

async function startNode(): Promise<Libp2p> {
  return await createLibp2p({
    addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
  });
}

async function sendZeros(stream: Stream, bytes: number): Promise<void> {
  const block = new Uint8Array(BLOCK_BYTES);
  for (let left = bytes; left > 0; left -= BLOCK_BYTES) {
    if (!stream.send(block.subarray(0, Math.min(left, BLOCK_BYTES)))) await stream.onDrain();
  }
}

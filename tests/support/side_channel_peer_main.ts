/**
 * Stands for a runner with an MLX that knows side channels: in each round it writes a piece of as
 * many bytes as the arguments say, and tells what came back: `deno run -A
 * tests/support/side_channel_peer_main.ts INPUT OUTPUT RANK BYTES…`. It lives until its standard
 * input ends.
 */
import { createHash } from "node:crypto";
import { pieceOf } from "./side_channel_piece.ts";

const [input = "", output = "", rank = "", ...sizes] = Deno.args;

async function readExactly(file: Deno.FsFile, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count;) {
    const read = await file.read(bytes.subarray(at));
    if (read === null) throw new Error(`the pipe ended after ${at} of ${count} bytes`);
    at += read;
  }
  return bytes;
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

// In this order, as the relay holds both other ends open: neither waits.
const [reads, writes] = [await Deno.open(input), await Deno.open(output, { write: true })];
for (const [sequence, size] of sizes.entries()) {
  const piece = pieceOf(Number(rank), sequence, Number(size));
  const frame = new Uint8Array(4 + piece.length);
  new DataView(frame.buffer).setUint32(0, piece.length, true);
  frame.set(piece, 4);
  for (let at = 0; at < frame.length;) at += await writes.write(frame.subarray(at));
  const header = await readExactly(reads, 4);
  const length = new DataView(header.buffer).getUint32(0, true);
  const joined = await readExactly(reads, length);
  say(`${length} ${createHash("sha256").update(joined).digest("hex")}`);
}
await new Response(Deno.stdin.readable).arrayBuffer();

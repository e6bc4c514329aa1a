/**
 * A program for a machine of a `VirtualNetwork`. It answers each line on stdin with one on stdout,
 * after a first line with its ports: `[tcp, udp]`.
 *
 *     echo HOST PORT COUNT        round trips of so many datagrams, in ms, null where none came back
 *     fetch HOST PORT BYTES       ms until so many bytes have come from another's TCP port
 *     multicast TEXT              sends it to the group
 *     heard                       what has come from the group so far
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";

const GROUP = "224.0.0.251";
const GROUP_PORT = 5353;
/** A datagram that has taken longer is counted as lost. */
const ECHO_LIMIT_MS = 1_500;

const say = (value: unknown) =>
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));

/** Sends as many bytes as each connection asks for. */
const tcp = createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", (asked) => socket.end(new Uint8Array(Number(`${asked}`))));
}).listen(0, "0.0.0.0");
await once(tcp, "listening");
const udp = createSocket("udp4");
udp.on("message", (bytes, { address, port }) => udp.send(bytes, port, address)).bind(0, "0.0.0.0");
await once(udp, "listening");
const [cardAddress = ""] = Deno.args;
const group = createSocket({ type: "udp4", reuseAddr: true });
const heard: string[] = [];
group.on("message", (bytes) => heard.push(`${bytes}`)).bind(GROUP_PORT, "0.0.0.0");
await once(group, "listening");
group.addMembership(GROUP, cardAddress);
group.setMulticastInterface(cardAddress);
group.setMulticastLoopback(false);

/** All at once: what one takes says nothing of the next. */
async function echo(host: string, port: number, count: number): Promise<(number | null)[]> {
  const socket = createSocket("udp4");
  const tookMs: (number | null)[] = Array.from({ length: count }, () => null);
  const sentAt: number[] = [];
  const { promise: all, resolve } = Promise.withResolvers<void>();
  let back = 0;
  socket.on("message", (bytes) => {
    const n = Number(`${bytes}`);
    tookMs[n] = performance.now() - (sentAt[n] ?? 0);
    if (++back === count) resolve();
  });
  socket.on("error", () => {});
  for (let n = 0; n < count; n++) {
    sentAt.push(performance.now());
    await new Promise<void>((sent) => socket.send(`${n}`, port, host, () => sent()));
  }
  const limit = setTimeout(resolve, ECHO_LIMIT_MS);
  await all;
  clearTimeout(limit);
  socket.close();
  return tookMs;
}

async function fetchBytes(host: string, port: number, bytes: number): Promise<number> {
  const startedAt = performance.now();
  const socket = connect(port, host);
  await once(socket, "connect");
  socket.write(`${bytes}`);
  let left = bytes;
  for await (const piece of socket) left -= piece.length;
  if (left !== 0) throw new Error(`${left} bytes are missing`);
  return performance.now() - startedAt;
}

const addressOf = (socket: { address(): unknown }) => (socket.address() as { port: number }).port;
say([addressOf(tcp), addressOf(udp)]);
for await (const line of createInterface({ input: Readable.fromWeb(Deno.stdin.readable) })) {
  const [command, host = "", port, count] = line.split(" ");
  if (command === "echo") say(await echo(host, Number(port), Number(count)));
  if (command === "fetch") say(await fetchBytes(host, Number(port), Number(count)));
  if (command === "multicast") group.send(host, GROUP_PORT, GROUP, () => say("sent"));
  if (command === "heard") say(heard);
}
Deno.exit(0);

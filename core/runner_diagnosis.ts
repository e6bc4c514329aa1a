/**
 * What the last lines of a runner's stderr say about its end (spec worker §5.1): some failures of
 * native code are told there alone.
 */

/** Names of errors of sockets, on Linux and on macOS. */
const ERRNO: Readonly<Record<number, string>> = {
  32: "EPIPE, the other end is closed",
  50: "ENETDOWN, the network is down",
  51: "ENETUNREACH, no way to the network",
  54: "ECONNRESET, the other end broke off",
  57: "ENOTCONN, not connected",
  60: "ETIMEDOUT, the other end does not answer",
  61: "ECONNREFUSED, nobody listens there",
  64: "EHOSTDOWN, the machine is down",
  65: "EHOSTUNREACH, no way to the machine",
  100: "ENETDOWN, the network is down",
  101: "ENETUNREACH, no way to the network",
  103: "ECONNABORTED, the connection was given up",
  104: "ECONNRESET, the other end broke off",
  107: "ENOTCONN, not connected",
  110: "ETIMEDOUT, the other end does not answer",
  111: "ECONNREFUSED, nobody listens there",
  112: "EHOSTDOWN, the machine is down",
  113: "EHOSTUNREACH, no way to the machine",
};

const METAL_TIMEOUT = /\[METAL\].*command buffer.*GPU Timeout/i;
const RING_RECEIVE = /\[ring\] Receiving from socket (\d+) failed with errno (\d+)/i;
const RING_TRANSPORT = /\[ring\] Too many send\/recv errors\. Aborting/i;

/** What the lines tell, in one sentence without a stop; undefined when nothing that is known. */
export function diagnosis(lines: readonly string[]): string | undefined {
  const said = [
    metalTimeout(lines),
    ringReceive(lines),
    lines.some((line) => RING_TRANSPORT.test(line))
      ? "MLX's ring gave up after too many errors of its sockets"
      : undefined,
  ].filter((one) => one !== undefined);
  return said.length === 0 ? undefined : said.join("; ");
}

function metalTimeout(lines: readonly string[]): string | undefined {
  return lines.some((line) => METAL_TIMEOUT.test(line))
    ? "the GPU took too long for a command buffer of Metal (GPU Timeout)"
    : undefined;
}

/** Sockets fail one after the other: the last says what it came to. */
function ringReceive(lines: readonly string[]): string | undefined {
  const match = lines.map((line) => RING_RECEIVE.exec(line)).findLast((one) => one !== null);
  if (!match) return undefined;
  const [, socket, errno] = match;
  const name = ERRNO[Number(errno)] ?? `errno ${errno}`;
  return `MLX's ring could not receive from socket ${socket}: ${name}`;
}

/** What js-libp2p needs under Deno, and nothing else; `@libp2p/deno-compat` in the import map. */
import type { MultiaddrConnection, Transport, Upgrader } from "@libp2p/interface";

/** Pieces that are together no longer than this are written in one. */
const JOINED_BYTES_MAX = 64 * 1024;

/** What js-libp2p's TCP connections have beside the interface: they write pieces one by one. */
interface Writing {
  sendData(data: Pieces): unknown;
}

/** A list of pieces of bytes. */
interface Pieces {
  readonly byteLength: number;
  subarray(): Uint8Array;
  [Symbol.iterator](): Iterator<Uint8Array>;
}

/**
 * A transport whose connections write small pieces together. Noise hands over each message as its
 * length and its body, and every write is a packet and a system call, dearer under Deno than in Node.
 */
export function withJoinedWrites<Components>(
  make: (components: Components) => Transport,
): (components: Components) => Transport {
  return (components) => {
    const transport = make(components);
    const { dial, createListener } = transport;
    transport.dial = (address, options) =>
      dial.call(transport, address, { ...options, upgrader: joining(options.upgrader) });
    transport.createListener = (options) =>
      createListener.call(transport, { ...options, upgrader: joining(options.upgrader) });
    return transport;
  };
}

/** Has connections write in one before they are made more of. */
function joining(upgrader: Upgrader): Upgrader {
  return new Proxy(upgrader, {
    get(target, key) {
      const value = Reflect.get(target, key);
      if (typeof value !== "function") return value;
      if (key !== "upgradeInbound" && key !== "upgradeOutbound") return value.bind(target);
      return (connection: MultiaddrConnection, ...rest: unknown[]) => {
        joinWrites(connection);
        return value.call(target, connection, ...rest);
      };
    },
  });
}

function joinWrites(connection: unknown): void {
  if (!isWriting(connection)) return;
  const send = connection.sendData.bind(connection);
  connection.sendData = (data) => {
    if (data.byteLength > JOINED_BYTES_MAX) return send(data);
    const joined = data.subarray();
    return send({
      byteLength: joined.byteLength,
      subarray: () => joined,
      [Symbol.iterator]: () => [joined][Symbol.iterator](),
    });
  };
}

function isWriting(connection: unknown): connection is Writing {
  return typeof (connection as Partial<Writing>).sendData === "function";
}

import type { Stream } from "@libp2p/interface";

/** What js-yamux's streams have beside the interface: bytes that the peer may send, now and at most. */
interface Windowed {
  recvWindow: number;
  recvWindowCapacity: number;
  sendWindowUpdate(): void;
}

/**
 * Has a stream tell its writer of room only once half of the window is used up. js-yamux does so
 * after every frame, which doubles the packets of a stream of small messages. A stream of another
 * muxer stays as it is.
 */
export function creditInBulk(stream: Stream): void {
  if (!isWindowed(stream)) return;
  const update = stream.sendWindowUpdate.bind(stream);
  stream.sendWindowUpdate = () => {
    if (stream.recvWindowCapacity <= stream.recvWindow / 2) update();
  };
}

function isWindowed(stream: unknown): stream is Windowed {
  const { recvWindow, recvWindowCapacity, sendWindowUpdate } = stream as Partial<Windowed>;
  return typeof recvWindow === "number" && typeof recvWindowCapacity === "number" &&
    typeof sendWindowUpdate === "function";
}

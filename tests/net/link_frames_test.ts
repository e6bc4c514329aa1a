import assert from "node:assert/strict";
import fc from "fast-check";
import type { ErrorInfo } from "../../core/errors.ts";
import { NodeId } from "../../core/ids.ts";
import { FrameReader } from "../../net/framing.ts";
import {
  ADDRESSES_MAX,
  decodeLinkFrame,
  encodeLinkFrame,
  type Hello,
  LINK_FRAME_BYTES_MAX,
  type LinkFrame,
  PEERS_TOLD_MAX,
} from "../../net/link_frames.ts";

const HELLO: Hello = {
  hostId: "host",
  addresses: ["/ip4/10.0.0.1/tcp/52415"],
  peers: [{ nodeId: NodeId.parse("b"), addresses: ["/ip4/10.0.0.2/tcp/52415"] }],
  isAll: true,
};

/** The one frame of these pieces, as it is read. */
function read(pieces: readonly Uint8Array[]): Uint8Array {
  const reader = new FrameReader(LINK_FRAME_BYTES_MAX + 1);
  const [one, ...more] = pieces.flatMap((piece) => reader.push(piece));
  assert.ok(one && more.length === 0);
  return one;
}

Deno.test("each frame is read as it was written", () => {
  const bytes = Uint8Array.of(1, 2, 3);
  const error: ErrorInfo = { code: "conflict", message: "no", hint: "yes" };
  const frames: LinkFrame[] = [
    { type: "Hello", hello: HELLO },
    { type: "Ping", id: 0 },
    { type: "Pong", id: 2 ** 32 - 1 },
    { type: "RequestPart", id: 1, bytes },
    { type: "Request", id: 1, protocol: "p".repeat(64), bytes: new Uint8Array() },
    { type: "AnswerPart", id: 1, bytes },
    { type: "Answer", id: 1, bytes },
    { type: "Failure", id: 1, error },
    { type: "Publish", topic: "ü", bytes },
  ];
  for (const one of frames) {
    const decoded = decodeLinkFrame(read(encodeLinkFrame(one)));
    const plain = (frame: LinkFrame) =>
      "bytes" in frame ? { ...frame, bytes: [...frame.bytes] } : frame;
    assert.deepEqual(plain(decoded), plain(one));
  }
});

Deno.test("whatever else comes is refused, and never hangs", () => {
  const wrong = [[], [99], [1], [1, 0, 0, 0], [4, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0], [8], [8, 2, 65]];
  for (const bytes of wrong) assert.throws(() => decodeLinkFrame(Uint8Array.from(bytes)));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
    try {
      encodeLinkFrame(decodeLinkFrame(bytes));
    } catch (cause) {
      assert.ok(cause instanceof Error);
    }
  }));
});

Deno.test("a name of more than 64 bytes is refused", () => {
  const bytes = new Uint8Array();
  for (const topic of ["x".repeat(65), "ü".repeat(33)]) {
    const frame = read(encodeLinkFrame({ type: "Publish", topic, bytes }));
    assert.throws(() => decodeLinkFrame(frame), /names no protocol or topic/);
  }
});

Deno.test("a hello with too many addresses or peers is refused", () => {
  const [address, peer] = [HELLO.addresses[0] as string, HELLO.peers[0] as Hello["peers"][0]];
  const wrong: Hello[] = [
    { ...HELLO, addresses: Array(ADDRESSES_MAX + 1).fill(address) },
    { ...HELLO, addresses: ["x".repeat(257)] },
    { ...HELLO, peers: Array(PEERS_TOLD_MAX + 1).fill(peer) },
    { ...HELLO, peers: [{ ...peer, addresses: Array(ADDRESSES_MAX + 1).fill(address) }] },
    { ...HELLO, hostId: "" },
  ];
  for (const hello of wrong) {
    const frame = read(encodeLinkFrame({ type: "Hello", hello }));
    assert.throws(() => decodeLinkFrame(frame));
  }
});

import { AppError } from "../../../core/errors.ts";
import { FrameReader } from "../../../net/framing.ts";
import {
  decodeLinkFrame,
  encodeLinkFrame,
  LINK_FRAME_BYTES_MAX,
  type LinkFrame,
} from "../../../net/link_frames.ts";
import { CONTROL } from "../../../net/topics.ts";
import { B } from "../../support/fixtures.ts";
import { mutatedBytes } from "../../support/mutations.ts";
import { Random } from "../../support/random.ts";
import { type FuzzedPart, Fuzzing, quoted } from "./report.ts";

/** How the protocol of links is written in the sources. */
export const LINK_PROTOCOL = "/exo/${namespace}/link/1";

/** One frame of each kind that a link has; the compiler asks for those of new ones. */
const BY_TYPE: { readonly [T in LinkFrame["type"]]: LinkFrame & { readonly type: T } } = {
  Hello: {
    type: "Hello",
    hello: {
      hostId: "host",
      addresses: ["/ip4/127.0.0.1/tcp/1"],
      peers: [{ nodeId: B, addresses: ["/ip4/127.0.0.1/tcp/2"] }],
      isAll: true,
    },
  },
  Ping: { type: "Ping", id: 1 },
  Pong: { type: "Pong", id: 1 },
  RequestPart: { type: "RequestPart", id: 2, bytes: new Uint8Array(100) },
  Request: { type: "Request", id: 2, protocol: CONTROL.protocol, bytes: new Uint8Array(2) },
  AnswerPart: { type: "AnswerPart", id: 3, bytes: new Uint8Array(100) },
  Answer: { type: "Answer", id: 3, bytes: new Uint8Array(10) },
  Failure: { type: "Failure", id: 4, error: { code: "internal", message: "no" } },
  Publish: { type: "Publish", topic: CONTROL.topic, bytes: new Uint8Array(2) },
};

/** The same in a list. */
export const LINK_FRAMES: readonly LinkFrame[] = Object.values(BY_TYPE);

/** A frame as it is on the wire. */
export function onWire(frame: LinkFrame): Uint8Array {
  return new Uint8Array(encodeLinkFrame(frame).flatMap((piece) => [...piece]));
}

/** Frames in one run of the reader: a broken one shifts all that follow. */
const RUN = 5;

/**
 * Reads mutated frames of links, in pieces: each is refused by an error, or a frame that the other
 * end could have sent, no longer than one may be.
 */
export function fuzzFrames(seed: number, count: number): FuzzedPart {
  const random = new Random(seed);
  const fuzzing = new Fuzzing(seed);
  while (fuzzing.said < count) {
    const reader = new FrameReader(LINK_FRAME_BYTES_MAX + 1);
    for (let left = RUN; left > 0; left--) {
      const bytes = mutatedBytes(onWire(random.pick(LINK_FRAMES)), random);
      const cut = random.below(bytes.length + 1);
      if (!read(reader, [bytes.subarray(0, cut), bytes.subarray(cut)], fuzzing)) break;
    }
  }
  // Readers share nothing that could have changed: a new one reads what is right.
  const right = [...new FrameReader(LINK_FRAME_BYTES_MAX + 1).push(allOnWire())];
  fuzzing.compare(
    "right frames",
    JSON.stringify(LINK_FRAMES),
    JSON.stringify(right.map((frame) => decodeLinkFrame(frame))),
  );
  return fuzzing.part();
}

function allOnWire(): Uint8Array {
  return Uint8Array.from(LINK_FRAMES.flatMap((frame) => [...onWire(frame)]));
}

/** Whether the stream can be read on. */
function read(reader: FrameReader, pieces: readonly Uint8Array[], fuzzing: Fuzzing): boolean {
  let isWellFormed = false;
  try {
    for (const piece of pieces) {
      for (const frame of reader.push(piece)) {
        if (frame.length > LINK_FRAME_BYTES_MAX + 1) fuzzing.found(`${frame.length} bytes`);
        isWellFormed = checked(decodeLinkFrame(frame), fuzzing) || isWellFormed;
      }
    }
    return true;
  } catch (cause) {
    const isRefusal = cause instanceof AppError || cause instanceof SyntaxError ||
      cause instanceof TypeError || (cause instanceof Error && cause.name === "ZodError");
    if (!isRefusal) fuzzing.found(`${quoted(pieces[0] as Uint8Array)} makes ${cause}`);
    return false;
  } finally {
    fuzzing.say(LINK_PROTOCOL, isWellFormed);
  }
}

/** What was read says the same when it is written and read again. */
function checked(frame: LinkFrame, fuzzing: Fuzzing): boolean {
  const again = decodeLinkFrame(onWire(frame).subarray(4));
  if (JSON.stringify(again) !== JSON.stringify(frame)) {
    fuzzing.found(`${JSON.stringify(frame)} became ${JSON.stringify(again)}`);
  }
  return true;
}

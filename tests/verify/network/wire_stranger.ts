/** What a stranger says to a master over real connections, by each way that there is. */
import type { Connection, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { BULK } from "../../../net/bulk_messages.ts";
import { frame } from "../../../net/framing.ts";
import type { Host } from "../../../net/libp2p_host.ts";
import { PREFILL } from "../../../net/prefill_messages.ts";
import { CONTROL, encodeMessage, GENERATION } from "../../../net/topics.ts";
import { eventually } from "../../support/eventually.ts";
import { mutatedBytes } from "../../support/mutations.ts";
import type { Random } from "../../support/random.ts";
import { ANSWER, PROMPT } from "./asking_node.ts";
import type { ControlMutations } from "./control.ts";
import { LINK_FRAMES, LINK_PROTOCOL, onWire } from "./frames.ts";
import { wrongChunk } from "./generation.ts";
import type { Fuzzing } from "./report.ts";

/** Mutated frames on one stream, which mostly does not live to see the last. */
const FRAMES = 8;

/** What a stream may be opened for, and what for none is. */
const PROTOCOLS: readonly string[] = [
  ...[GENERATION.protocol, CONTROL.protocol, BULK.protocol, PREFILL.protocol],
  ...["", "__proto__"],
];

/** How the protocol of streams is written in the sources. */
const STREAM_PROTOCOL = "/exo/${namespace}/stream/1";

/** Kinds of a stream's frames; there is none of the last. */
const MESSAGE = 0;
const OPEN = 3;
const KINDS = 6;

/** Bytes on a port before there is any protocol. */
const BARE = "TCP";

/** Which every node of libp2p answers. Source: libp2p specs, identify. */
const IDENTIFY_PROTOCOL = "/ipfs/id/1.0.0";

/** Everything that the stranger needs. */
export interface Attack {
  readonly host: Host;
  readonly namespace: string;
  /** Of the master, on loopback. */
  readonly address: string;
  readonly random: Random;
  readonly fuzzing: Fuzzing;
  readonly mutations: ControlMutations;
  /** A client of the master asks for something that the stranger is to answer. */
  readonly newTask: () => Promise<string>;
}

/** Says messages on the topic. */
export async function publish(attack: Attack): Promise<void> {
  const { host, namespace, mutations, fuzzing } = attack;
  const connection = await connected(attack);
  const { remotePeer } = connection;
  const topic = `exo/${namespace}/${CONTROL.topic}`;
  await eventually("the stranger knows that the master listens, or has lost it", () => {
    const listeners = host.services.pubsub.getSubscribers(topic);
    return connection.status !== "open" || listeners.some((one) => one.equals(remotePeer));
  });
  for (let left = FRAMES; left > 0; left--) {
    const { bytes, isWellFormed } = mutations.next();
    const { recipients } = await host.services.pubsub.publish(topic, bytes);
    const isHeard = recipients.some((peer) => peer.equals(remotePeer));
    if (isHeard) fuzzing.say(CONTROL.topic, isWellFormed);
  }
}

/** Bytes for a stream. */
interface Piece {
  readonly bytes: Uint8Array;
  /** They are mutated, and on what. */
  readonly topic?: string;
  readonly isWellFormed?: boolean;
  /** What the master has to say to it before there is more. */
  readonly answer?: string;
}

/** Introduces itself, or not, and says what a link has no frame for, or what it has. */
export async function speakOnLink(attack: Attack): Promise<void> {
  const { random, mutations } = attack;
  const [hello] = LINK_FRAMES;
  const isPolite = random.below(2) === 0;
  await speak(
    attack,
    LINK_PROTOCOL,
    pieces(() => {
      if (isPolite && hello && random.below(FRAMES) === 0) return { bytes: onWire(hello) };
      if (random.below(2) === 0) {
        const bytes = mutatedBytes(onWire(random.pick(LINK_FRAMES)), random);
        return { bytes, topic: LINK_PROTOCOL };
      }
      const { bytes, isWellFormed } = mutations.next();
      const { topic, protocol } = CONTROL;
      return random.below(2) === 0
        ? { bytes: onWire({ type: "Publish", topic, bytes }), topic, isWellFormed }
        : {
          bytes: onWire({ type: "Request", id: random.below(5), protocol, bytes }),
          topic: protocol,
          isWellFormed,
        };
    }),
  );
}

/** Opens a stream for what it is not for, or by a frame that does not open it, and goes on. */
export async function openStream(attack: Attack): Promise<void> {
  const { random } = attack;
  const named = () => streamFrame(OPEN, new TextEncoder().encode(random.pick(PROTOCOLS)));
  const first = mutatedBytes(named(), random);
  const more = pieces(() => {
    const right = random.below(2) === 0 ? named() : answerFrame(random.below(KINDS), random);
    if (random.below(2) === 0) return { bytes: right };
    return { bytes: mutatedBytes(right, random), topic: STREAM_PROTOCOL };
  });
  await speak(attack, STREAM_PROTOCOL, [{ bytes: first, topic: STREAM_PROTOCOL }, ...more]);
}

/** Takes a task as its worker does, and answers by wrong frames, or wrong chunks in right ones. */
export async function answerOnStream(attack: Attack): Promise<void> {
  const { random, newTask } = attack;
  const open = streamFrame(OPEN, new TextEncoder().encode(GENERATION.protocol));
  const hello = streamFrame(MESSAGE, encodeMessage({ taskId: await newTask() }));
  const wrong = pieces(() => {
    if (random.below(2) === 0) {
      const kind = random.below(2) === 0 ? MESSAGE : random.below(KINDS);
      return { bytes: mutatedBytes(answerFrame(kind, random), random), topic: STREAM_PROTOCOL };
    }
    const { bytes, isWellFormed } = wrongChunk(random);
    return { bytes: streamFrame(MESSAGE, bytes), topic: GENERATION.protocol, isWellFormed };
  });
  // What follows is said on a stream that was accepted, and whose prompt was handed over.
  await speak(attack, STREAM_PROTOCOL, [
    { bytes: open },
    { bytes: hello, answer: PROMPT },
    ...wrong,
  ]);
}

/** A frame that has a chunk in it, whatever it is. */
function answerFrame(kind: number, random: Random): Uint8Array {
  return streamFrame(kind, encodeMessage(random.pick(ANSWER)));
}

function streamFrame(kind: number, body: Uint8Array): Uint8Array {
  return Uint8Array.from(frame(kind, body).flatMap((piece) => [...piece]));
}

/** All are drawn before the first is said: whenever a reset comes, a seed draws the same. */
function pieces(next: () => Piece): Piece[] {
  return Array.from({ length: FRAMES }, next);
}

/** Says pieces on a new stream until the master breaks it. */
async function speak(
  attack: Attack,
  protocol: string,
  pieces: readonly Piece[],
): Promise<void> {
  const { namespace, fuzzing } = attack;
  const connection = await connected(attack);
  const name = protocol.replace("${namespace}", namespace);
  let stream: Stream | undefined;
  try {
    stream = await connection.newStream(name, { maxOutboundStreams: 1_000 });
    for (const { bytes, topic, isWellFormed = false, answer } of pieces) {
      if (stream.status !== "open") return;
      const heard = answer === undefined ? undefined : hears(stream, answer);
      stream.send(bytes);
      const isThere = heard ? await heard : await answers(connection);
      if (topic !== undefined) fuzzing.say(topic, isWellFormed);
      if (!isThere) return;
    }
  } catch {
    // The other side had had enough of it before this was said.
  } finally {
    stream?.abort(new Error("enough"));
  }
}

/** Whether the master says this before it breaks the stream. */
function hears(stream: Stream, text: string): Promise<boolean> {
  return new Promise((resolve) => {
    let heard = "";
    stream.addEventListener("message", ({ data }) => {
      heard += new TextDecoder().decode(data.subarray());
      if (heard.includes(text)) resolve(true);
    });
    stream.addEventListener("close", () => resolve(false));
  });
}

/**
 * Whether the master still answers on the connection. What was said before has reached it then, and
 * what it has broken for that is known to be; if not, it has broken the connection for it.
 */
async function answers(connection: Connection): Promise<boolean> {
  try {
    const stream = await connection.newStream(IDENTIFY_PROTOCOL, { maxOutboundStreams: 1_000 });
    stream.abort(new Error("no more is needed"));
    return true;
  } catch {
    return false;
  }
}

async function connected({ host, address }: Attack): Promise<Connection> {
  const [open] = host.getConnections().filter(({ status }) => status === "open");
  return open ?? await host.dial(multiaddr(address));
}

/** Says what is no handshake; the master has read it when it closes. */
export async function speakBare({ address, random, fuzzing }: Attack): Promise<void> {
  const port = Number(address.split("/").at(-1));
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const greeting = new TextEncoder().encode("\x13/multistream/1.0.0\n\x07/noise\n");
  try {
    await conn.write(mutatedBytes(greeting, random));
    await conn.closeWrite();
    while (await conn.read(new Uint8Array(1_024)) !== null);
  } catch {
    // Reset: it has had enough of it.
  }
  fuzzing.say(BARE, false);
}

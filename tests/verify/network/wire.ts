import type { Connection, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { setImmediate } from "node:timers/promises";
import { frame } from "../../../net/framing.ts";
import { newIdentity } from "../../../net/identity.ts";
import { connectLibp2p } from "../../../net/libp2p.ts";
import { type Host, startHost } from "../../../net/libp2p_host.ts";
import { silentLogger } from "../../../net/libp2p_logger.ts";
import { BULK } from "../../../net/bulk_messages.ts";
import { PREFILL } from "../../../net/prefill_messages.ts";
import { CONTROL, GENERATION } from "../../../net/topics.ts";
import type { Transport } from "../../../net/transport.ts";
import { eventually } from "../../support/eventually.ts";
import { mutatedBytes } from "../../support/mutations.ts";
import { Random } from "../../support/random.ts";
import { ControlMutations, stillWorks } from "./control.ts";
import { ControlWorld } from "./control_world.ts";
import { LINK_FRAMES, LINK_PROTOCOL, onWire } from "./frames.ts";
import { type FuzzedPart, Fuzzing } from "./report.ts";

/** Frames on one stream, which mostly does not live to see the last. */
const FRAMES = 8;

/** What a stream may be opened for, and what for none is. */
const PROTOCOLS: readonly string[] = [
  ...[GENERATION.protocol, CONTROL.protocol, BULK.protocol, PREFILL.protocol],
  ...["", "__proto__"],
];

/** How the protocol of streams is written in the sources. */
const STREAM_PROTOCOL = "/exo/${namespace}/stream/1";

/** Bytes on a port before there is any protocol. */
const BARE = "TCP";

/** Which every node of libp2p answers. Source: libp2p specs, identify. */
const IDENTIFY_PROTOCOL = "/ipfs/id/1.0.0";

/** Everything that the stranger needs. */
interface Attack {
  readonly host: Host;
  readonly namespace: string;
  /** Of the master, on loopback. */
  readonly address: string;
  readonly random: Random;
  readonly fuzzing: Fuzzing;
  readonly mutations: ControlMutations;
}

/**
 * Says mutated messages over real connections, as a stranger that knows the namespace: on the topic,
 * on link streams, on streams and on bare TCP. The nodes' states and logs, who reigns, and the
 * master's link to its follower stay. What is right, and what has not arrived, does not count.
 */
export async function fuzzWire(seed: number, count: number): Promise<FuzzedPart> {
  const namespace: string = crypto.randomUUID();
  const transports: Transport[] = [];
  const join = async (bootstrap: readonly string[]) => {
    const identityKey = await newIdentity();
    const transport = await connectLibp2p({ identityKey, namespace, port: 0, bootstrap });
    transports.push(transport);
    return transport;
  };
  const addressOf = (transport: Transport | undefined) =>
    transport?.addresses().find((one) => one.includes("/127.0.0.1/"))?.replace(/\/p2p\/.*/, "") ??
      "";
  await using world = await ControlWorld.start([
    () => join([]),
    () => join([addressOf(transports[0])]),
  ]);
  const { host } = await startHost({
    identityKey: await newIdentity(),
    port: 0,
    logger: silentLogger(),
  });
  try {
    const [random, fuzzing] = [new Random(seed), new Fuzzing(seed)];
    const mutations = new ControlMutations(random, world.state, world.epoch);
    const attack = {
      host,
      namespace,
      address: addressOf(transports[0]),
      random,
      fuzzing,
      mutations,
    };
    await fuzzAll(attack, world, count);
    const [master, follower] = transports as [Transport, Transport];
    await eventually("the follower is linked", () => master.peers().has(follower.self));
    await stillWorks(world, fuzzing);
    return fuzzing.part();
  } finally {
    await host.stop();
  }
}

async function fuzzAll(attack: Attack, world: ControlWorld, count: number): Promise<void> {
  const { fuzzing, mutations } = attack;
  const ways = [speakOnLink, publish, speakOnStream, publish, speakBare];
  for (let turn = 0; fuzzing.said < count && !world.changed(); turn++) {
    await ways[turn % ways.length]?.(attack);
    await setImmediate();
  }
  fuzzing.leftOut = mutations.leftOut;
  const changed = world.changed() ?? world.changedOnDisk();
  if (changed) fuzzing.found(changed);
}

async function publish(attack: Attack): Promise<void> {
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

/** Bytes for a stream; `topic`: they are mutated, and on what. */
interface Piece {
  readonly bytes: Uint8Array;
  readonly topic?: string;
  readonly isWellFormed?: boolean;
}

/** Introduces itself, or not, and says what a link has no frame for, or what it has. */
async function speakOnLink(attack: Attack): Promise<void> {
  const { random, mutations } = attack;
  const [hello] = LINK_FRAMES;
  const isPolite = random.below(2) === 0;
  await speak(attack, LINK_PROTOCOL, () => {
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
  });
}

/** Opens streams for something or for nothing, and says what is none of their words. */
async function speakOnStream(attack: Attack): Promise<void> {
  const { random } = attack;
  let isOpen = random.below(4) === 0;
  await speak(attack, STREAM_PROTOCOL, () => {
    const kind = isOpen ? random.below(6) : OPEN;
    const text = isOpen ? JSON.stringify({ taskId: "t" }) : random.pick(PROTOCOLS);
    isOpen = true;
    const bytes = frame(kind, new TextEncoder().encode(text)).flatMap((piece) => [...piece]);
    const right = Uint8Array.from(bytes);
    if (random.below(2) === 0) return { bytes: right };
    return { bytes: mutatedBytes(right, random), topic: STREAM_PROTOCOL };
  });
}

/** The kind of a stream's first frame. */
const OPEN = 3;

/** Says pieces on a stream until the master breaks it. */
async function speak(attack: Attack, protocol: string, next: () => Piece): Promise<void> {
  const { namespace, fuzzing } = attack;
  const connection = await connected(attack);
  const name = protocol.replace("${namespace}", namespace);
  let stream: Stream | undefined;
  try {
    stream = await connection.newStream(name, { maxOutboundStreams: 1_000 });
    let isThere = true;
    for (let left = FRAMES; isThere && stream.status === "open" && left > 0; left--) {
      const { bytes, topic, isWellFormed = false } = next();
      stream.send(bytes);
      isThere = await answers(connection);
      if (topic !== undefined) fuzzing.say(topic, isWellFormed);
    }
  } catch {
    // The other side had had enough of it before this was said.
  } finally {
    stream?.abort(new Error("enough"));
  }
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

/** What is no handshake; the master has read it when it closes. */
async function speakBare({ address, random, fuzzing }: Attack): Promise<void> {
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

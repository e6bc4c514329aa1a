import type { Connection, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { setImmediate } from "node:timers/promises";
import { frame } from "../../../net/framing.ts";
import { newIdentity } from "../../../net/identity.ts";
import { connectLibp2p } from "../../../net/libp2p.ts";
import { type Host, startHost } from "../../../net/libp2p_host.ts";
import { silentLogger } from "../../../net/libp2p_logger.ts";
import { BULK } from "../../../net/bulk_messages.ts";
import { CONTROL, GENERATION } from "../../../net/topics.ts";
import type { Transport } from "../../../net/transport.ts";
import { eventually } from "../../support/eventually.ts";
import { mutatedBytes } from "../../support/mutations.ts";
import { Random } from "../../support/random.ts";
import { ControlMutations, stillWorks } from "./control.ts";
import { ControlWorld } from "./control_world.ts";
import { LINK_FRAMES, onWire } from "./frames.ts";
import { type FuzzedPart, Fuzzing } from "./report.ts";

/** Frames on one stream, which mostly does not live to see the last. */
const FRAMES = 8;

/** What a stream may be opened for, and what for none is. */
const PROTOCOLS = [GENERATION.protocol, CONTROL.protocol, BULK.protocol, "", "__proto__"];

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
 * on link streams, on streams and on bare TCP. The master's state and link to its follower stay.
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
  ], { mayElect: true });
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
  const { fuzzing, random } = attack;
  const ways = [publish, publish, speakOnLink, speakOnStream, speakBare];
  while (fuzzing.said < count && !world.changed()) {
    await random.pick(ways)(attack);
    await setImmediate();
  }
  const changed = world.changed();
  if (changed) fuzzing.found(changed);
}

async function publish({ host, namespace, mutations, fuzzing }: Attack): Promise<void> {
  // The topic is known to the stranger once it has a connection.
  if (host.getConnections().length === 0) return;
  const topic = `exo/${namespace}/${CONTROL.topic}`;
  for (let left = FRAMES; left > 0; left--) {
    const { bytes, isWellFormed } = mutations.next();
    fuzzing.say(isWellFormed);
    await host.services.pubsub.publish(topic, bytes);
  }
}

/** Introduces itself, or not, and says what a link has no frame for, or what it has. */
async function speakOnLink(attack: Attack): Promise<void> {
  const { namespace, random, fuzzing, mutations } = attack;
  const [hello] = LINK_FRAMES;
  const isPolite = random.below(2) === 0;
  await speak(attack, `/exo/${namespace}/link/1`, () => {
    if (isPolite && hello && random.below(FRAMES) === 0) return onWire(hello);
    if (random.below(2) === 0) {
      fuzzing.say(false);
      return mutatedBytes(onWire(random.pick(LINK_FRAMES)), random);
    }
    const { bytes, isWellFormed } = mutations.next();
    fuzzing.say(isWellFormed);
    return random.below(2) === 0
      ? onWire({ type: "Publish", topic: CONTROL.topic, bytes })
      : onWire({ type: "Request", id: random.below(5), protocol: CONTROL.protocol, bytes });
  });
}

/** Opens streams for something or for nothing, and says what is none of their words. */
async function speakOnStream(attack: Attack): Promise<void> {
  const { namespace, random, fuzzing } = attack;
  let isOpen = random.below(4) === 0;
  await speak(attack, `/exo/${namespace}/stream/1`, () => {
    const kind = isOpen ? random.below(6) : OPEN;
    const text = isOpen ? JSON.stringify({ taskId: "t" }) : random.pick(PROTOCOLS);
    isOpen = true;
    fuzzing.say(false);
    const bytes = frame(kind, new TextEncoder().encode(text)).flatMap((piece) => [...piece]);
    const right = Uint8Array.from(bytes);
    return random.below(2) === 0 ? right : mutatedBytes(right, random);
  });
}

/** The kind of a stream's first frame. */
const OPEN = 3;

async function speak(
  { host, address }: Attack,
  protocol: string,
  next: () => Uint8Array,
): Promise<void> {
  const connection = await connected(host, address);
  let stream: Stream | undefined;
  try {
    stream = await connection.newStream(protocol, { maxOutboundStreams: 1_000 });
    for (let left = FRAMES; left > 0; left--) {
      stream.send(next());
      await setImmediate();
    }
  } catch {
    // The other side has had enough of it.
  } finally {
    stream?.abort(new Error("enough"));
  }
}

async function connected(host: Host, address: string): Promise<Connection> {
  const [open] = host.getConnections().filter(({ status }) => status === "open");
  return open ?? await host.dial(multiaddr(address));
}

/** What is no handshake. */
async function speakBare({ address, random, fuzzing }: Attack): Promise<void> {
  const port = Number(address.split("/").at(-1));
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  fuzzing.say(false);
  const greeting = new TextEncoder().encode("\x13/multistream/1.0.0\n\x07/noise\n");
  try {
    await conn.write(mutatedBytes(greeting, random));
  } catch {
    // The other side has had enough of it.
  }
}

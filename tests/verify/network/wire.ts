import { setImmediate } from "node:timers/promises";
import { newIdentity, nodeIdOf } from "../../../net/identity.ts";
import { connectLibp2p } from "../../../net/libp2p.ts";
import { startHost } from "../../../net/libp2p_host.ts";
import { silentLogger } from "../../../net/libp2p_logger.ts";
import type { Transport } from "../../../net/transport.ts";
import { eventually, within } from "../../support/eventually.ts";
import { Random } from "../../support/random.ts";
import { AskingNode } from "./asking_node.ts";
import { ControlMutations, stillWorks } from "./control.ts";
import { ControlWorld } from "./control_world.ts";
import { type FuzzedPart, Fuzzing } from "./report.ts";
import { answerOnStream, openStream, publish, speakBare, speakOnLink } from "./wire_stranger.ts";
import type { Attack } from "./wire_stranger.ts";

/** In which ways the stranger speaks, and which share of the messages each gets. */
const WAYS = [
  { speak: publish, share: 0.25 },
  { speak: speakOnLink, share: 0.25 },
  { speak: openStream, share: 0.15 },
  { speak: answerOnStream, share: 0.2 },
  { speak: speakBare, share: 0.15 },
] as const;

/** Turns in a row in which nothing that is said arrives: then nothing does any more. */
const VAIN_TURNS_MAX = 100;

/** Clients that leave are let go by then. */
const LEAVE_MS_MAX = 15_000;

/**
 * Says mutated messages over real connections, as a stranger that knows the namespace: on the
 * topic, on link streams, on streams and on bare TCP, and as the worker of clients of the master.
 * The nodes' states and logs, who reigns, and the master's link to its follower stay; no client is
 * kept, and no task left. What is right, and what has not arrived, does not count.
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
  await using world = await ControlWorld.start([
    () => join([]),
    () => join([addressOf(transports[0])]),
  ]);
  const [master, follower] = transports as [Transport, Transport];
  const identityKey = await newIdentity();
  const { host } = await startHost({ identityKey, port: 0, logger: silentLogger() });
  try {
    const [random, fuzzing] = [new Random(seed), new Fuzzing(seed)];
    using asking = new AskingNode(master, nodeIdOf(identityKey));
    const before = asking.left();
    const clients = new Clients(asking);
    const attack = {
      ...{ host, namespace, address: addressOf(master), random, fuzzing },
      ...{ mutations: new ControlMutations(random, world.state, world.epoch) },
      newTask: () => clients.newTask(),
    };
    await fuzzAll(attack, world, count);
    await clients.leave();
    await eventually("no task is left", () => asking.left() === before).catch(() => {});
    fuzzing.compare("what answers leave", before, asking.left());
    await eventually("the follower is linked", () => master.peers().has(follower.self));
    await stillWorks(world, fuzzing);
    return fuzzing.part();
  } finally {
    await host.stop();
  }
}

/** On loopback. */
function addressOf(transport: Transport | undefined): string {
  const own = transport?.addresses().find((one) => one.includes("/127.0.0.1/"));
  return own?.replace(/\/p2p\/.*/, "") ?? "";
}

/** Clients of a node, who stay until all leave. */
class Clients {
  readonly #node: AskingNode;
  readonly #leaving = new AbortController();
  readonly #answers: Promise<unknown>[] = [];

  constructor(node: AskingNode) {
    this.#node = node;
  }

  /** One more asks: the task that the worker gets for it. */
  newTask(): Promise<string> {
    return new Promise((resolve) => {
      this.#node.serve = resolve;
      this.#answers.push(this.#node.answer(this.#leaving.signal));
    });
  }

  async leave(): Promise<void> {
    this.#leaving.abort();
    await within("all clients to be let go", Promise.all(this.#answers), LEAVE_MS_MAX);
  }
}

/** Each turn is of the way that is furthest behind its share, so that none is left out. */
async function fuzzAll(attack: Attack, world: ControlWorld, count: number): Promise<void> {
  const { fuzzing, mutations } = attack;
  const ways = WAYS.map((way) => ({ ...way, said: 0 }));
  for (let vain = 0; fuzzing.said < count && vain < VAIN_TURNS_MAX && !world.changed(); vain++) {
    const way = ways.reduce((a, b) => b.said / b.share < a.said / a.share ? b : a);
    const before = fuzzing.said;
    await way.speak(attack);
    way.said += fuzzing.said - before;
    if (fuzzing.said > before) vain = -1;
    await setImmediate();
  }
  fuzzing.leftOut = mutations.leftOut;
  const silent = ways.filter(({ said }) => said === 0).map(({ speak }) => speak.name);
  if (silent.length > 0) fuzzing.found(`nothing that is said arrives by ${silent}`);
  const changed = world.changed() ?? world.changedOnDisk();
  if (changed) fuzzing.found(changed);
}

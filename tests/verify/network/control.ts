import { setImmediate } from "node:timers/promises";
import { NodeId } from "../../../core/ids.ts";
import { compareEpochs, type Epoch } from "../../../core/lineage.ts";
import { headOf } from "../../../core/log_tail.ts";
import { decodeMessage, type Message } from "../../../core/protocol.ts";
import { type State, stateToJson } from "../../../core/state.ts";
import { MemoryNetwork } from "../../../net/memory.ts";
import { CONTROL } from "../../../net/topics.ts";
import type { Transport } from "../../../net/transport.ts";
import { eventually, within } from "../../support/eventually.ts";
import { A, B, C, cardOf, commandId, MODEL } from "../../support/fixtures.ts";
import { memberStory } from "../../support/member_story.ts";
import { mutatedMessage } from "../../support/mutations.ts";
import { Random } from "../../support/random.ts";
import { ControlWorld } from "./control_world.ts";
import { type FuzzedPart, Fuzzing, quoted } from "./report.ts";

/** A peer that is connected, and no node of the cluster. */
const STRANGER = NodeId.parse("stranger");

/** What takes the place of a text; never the stranger, who may speak of itself. */
const WORDS: readonly string[] = [
  ...[A, B, C, "node-x", "i", "j", "m", "L", "i:0", "j:0", "", "\u0000", MODEL],
  ...["RunnerFailed", "RunnerReady", "Complete", "Cancelled", "__proto__", "constructor"],
];

/** How long a command may take at most when all is said, on a machine that is loaded. */
const PATIENCE_MS = 20_000;

/** Messages between two looks at the states. */
const LOOK_EVERY = 10;

/** Mutations of what nodes have said, without end; half of them of the epoch that reigns. */
export class ControlMutations {
  /** Mutations that were drawn and not said, since they may be heeded. */
  leftOut = 0;
  readonly #messages = memberStory().messages;
  readonly #random: Random;
  readonly #state: State;
  readonly #epoch: Epoch;

  /** `state` is the cluster's, in which nothing happens any more. */
  constructor(random: Random, state: State, epoch: Epoch) {
    [this.#random, this.#state, this.#epoch] = [random, state, epoch];
  }

  /**
   * A message that must change nothing: it is none, or says what a stranger may say in vain.
   *
   * Two kinds are left out, and counted apart. A command of the epoch that reigns (or of none) is
   * one that its sender asks for: any node of the namespace that has the secret may ask, as
   * docs/security.md says, and no mutation makes a command that could not be asked so. What is of a
   * later epoch says that its sender reigns: nodes have to follow, as they do when a master returns
   * from a partition. Both change the state as they should; that they are decoded is seen by those
   * of past epochs.
   */
  next(): { bytes: Uint8Array; isWellFormed: boolean } {
    for (;;) {
      const recorded = this.#random.pick(this.#messages);
      const isNow = this.#random.below(2) === 0 && recorded.type !== "CommandRequest";
      const message = isNow ? saidNow(recorded, this.#state, this.#epoch) : recorded;
      const bytes = mutatedMessage(message, this.#random, WORDS);
      const heard = decodeMessage(new TextDecoder().decode(bytes));
      if (!heard) return { bytes, isWellFormed: false };
      if (isInVain(heard, this.#epoch)) return { bytes, isWellFormed: true };
      this.leftOut++;
    }
  }
}

/** The same as if it were said now: what follows the log does, and what is newer is. */
function saidNow(message: Message, state: State, epoch: Epoch): unknown {
  const head = headOf(state);
  switch (message.type) {
    case "Events": {
      const events = message.events.map((event, at) => ({
        ...event,
        epoch,
        idx: head.idx + 1 + at,
      }));
      return { ...message, epoch, previous: head, events };
    }
    case "Snapshot":
    case "HeadState": {
      const { lineage } = stateToJson(state);
      const lastEventAppliedIdx = head.idx + 1;
      return { ...message, epoch, state: { ...message.state, lineage, lastEventAppliedIdx } };
    }
    default: {
      const now = "head" in message ? { head: { ...message.head, epoch } } : {};
      return { ...message, ...("epoch" in message ? { epoch } : {}), ...now };
    }
  }
}

function isInVain(message: Message, reigning: Epoch): boolean {
  const epochs = [
    "epoch" in message ? message.epoch : undefined,
    "head" in message ? message.head.epoch : undefined,
  ].flatMap((epoch) => epoch ? [compareEpochs(epoch, reigning)] : []);
  if (epochs.some((order) => order > 0)) return false;
  return message.type !== "CommandRequest" || epochs.every((order) => order < 0);
}

/** Says mutated messages on the topic and by the protocol, to a master and two followers. */
export async function fuzzControl(seed: number, count: number): Promise<FuzzedPart> {
  const network = new MemoryNetwork();
  await using world = await ControlWorld.start(
    [A, B, C].map((nodeId) => () => Promise.resolve(network.join(nodeId))),
  );
  const stranger = network.join(STRANGER);
  const random = new Random(seed);
  const mutations = new ControlMutations(random, world.state, world.epoch);
  const fuzzing = new Fuzzing(seed);
  while (fuzzing.said < count && !world.changed()) {
    for (let left = LOOK_EVERY; left > 0; left--) {
      const { bytes, isWellFormed } = mutations.next();
      // What is no message may be said by the cluster's own nodes as well.
      const own = world.planes.map(({ transport }) => transport);
      const from = isWellFormed ? stranger : random.pick([stranger, ...own]);
      const way = random.below(3);
      if (way === 0) from.publish(CONTROL.topic, bytes);
      else if (way === 1) from.tell(random.pick([A, B, C]), CONTROL.topic, bytes);
      else ask(from, random.pick([A, B, C]), bytes, fuzzing);
      fuzzing.say(way === 2 ? CONTROL.protocol : CONTROL.topic, isWellFormed);
    }
    // Heartbeats and what else is due go on.
    await setImmediate();
  }
  fuzzing.leftOut = mutations.leftOut;
  const changed = world.changed() ?? world.changedOnDisk();
  if (changed) fuzzing.found(changed);
  await stillWorks(world, fuzzing);
  return fuzzing.part();
}

function ask(from: Transport, to: NodeId, bytes: Uint8Array, fuzzing: Fuzzing): void {
  from.request(to, CONTROL.protocol, bytes, { timeoutMs: 5_000 })
    .catch((cause) => fuzzing.found(`${to} answers ${quoted(bytes)} by ${cause}`));
}

/** A follower is asked something, and all nodes hear of it, by the same log. */
export async function stillWorks(world: ControlWorld, fuzzing: Fuzzing): Promise<void> {
  const modelCard = cardOf({ modelId: `${MODEL}-after` });
  const command = { type: "AddCustomModelCard" as const, commandId: commandId("after"), modelCard };
  const states = () => world.planes.map(({ replica }) => replica.state);
  try {
    const { control } = world.planes.at(-1) as typeof world.planes[number];
    await within("an answer", control.submit(command), PATIENCE_MS);
    await eventually("all nodes know of it, by the same log", () => {
      const isKnown = states().every((state) => state.customModelCards.has(modelCard.modelId));
      const heads = new Set(states().map((state) => JSON.stringify(headOf(state))));
      return isKnown && heads.size === 1;
    }, PATIENCE_MS);
  } catch (cause) {
    fuzzing.found(`a command afterwards: ${cause}`);
  }
}

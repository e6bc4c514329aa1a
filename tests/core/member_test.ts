/** Any schedule of faults: safety at each step, and agreement once the faults stop. */
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { NO_FACTS } from "../../core/facts.ts";
import { ModelId, type NodeId } from "../../core/ids.ts";
import { decodeMessage, encodeMessage } from "../../core/protocol.ts";
import { A, B, C, cardOf, commandId, nodeStarted } from "../support/fixtures.ts";
import { Members } from "../support/members.ts";
import { Random } from "../support/random.ts";

const IDS = [A, B, C];

/** How long members may need to agree: the longest late message, then rounds and merges. */
const HEAL_MS = 45_000;

/** Three members, faults, and commands whose outcomes are remembered. */
class Story {
  readonly world = new Members();
  readonly asked = new Map<string, { isDeletion: boolean; name: string }>();
  readonly #starts = new Map<NodeId, number>();
  readonly #random: Random;
  #cut = new Set<string>();
  #loss = 0;
  #delayMs = 1;
  #late = 0;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.world.wire = (from, to, message) => {
      const random = this.#random;
      if (this.#cut.has(`${from}>${to}`) || random.next() < this.#loss) return [];
      if (random.next() < 0.01) deepEqual(decodeMessage(encodeMessage(message)), message);
      const delay = () =>
        1 + random.below(this.#delayMs) + (random.next() < this.#late ? random.below(8_000) : 0);
      return random.next() < this.#loss / 2 ? [delay(), delay()] : [delay()];
    };
    for (const nodeId of IDS) this.#start(nodeId);
  }

  /** One fault or its end, commands, and some time. */
  fault(): void {
    const random = this.#random;
    const alive = IDS.filter((id) => this.world.nodes.has(id));
    const dead = IDS.filter((id) => !alive.includes(id));
    const faults = [
      () => {
        this.#loss = random.pick([0, 0.1, 0.3]);
        this.#delayMs = random.pick([1, 50, 300]);
        this.#late = random.pick([0, 0.02]);
      },
      () => {
        const alone = random.pick(IDS);
        const others = IDS.filter((id) => id !== alone);
        this.#cut = new Set(others.flatMap((id) => [`${id}>${alone}`, `${alone}>${id}`]));
      },
      () => (this.#cut = new Set([0, 1].map(() => `${random.pick(IDS)}>${random.pick(IDS)}`))),
      () => (this.#cut = new Set()),
      () => alive.length > 1 && this.world.kill(random.pick(alive), random.next() < 0.7),
      () => alive.length > 1 && this.world.cutPower(random.pick(alive)),
      () => dead.length > 0 && this.#start(random.pick(dead)),
      () => (this.world.dateOffset = 2_000_000 + random.below(1e9)),
    ];
    random.pick(faults)();
    for (let left = random.below(4); left > 0; left--) {
      this.#ask();
      this.world.run(random.below(500));
    }
    this.world.run(random.below(5_000));
  }

  heal(): void {
    this.#cut = new Set();
    [this.#loss, this.#delayMs, this.#late] = [0, 1, 0];
    for (const nodeId of IDS) if (!this.world.nodes.has(nodeId)) this.#start(nodeId);
    this.world.run(HEAL_MS);
  }

  isAccepted(id: string): boolean {
    return this.world.replies
      .some(({ reply }) => reply.commandId === id && reply.type === "CommandAccepted");
  }

  #start(nodeId: NodeId): void {
    const incarnation = (this.#starts.get(nodeId) ?? 0) + 1;
    this.#starts.set(nodeId, incarnation);
    this.world.start(nodeId);
    const reports = new Map([["node", nodeStarted(nodeId, incarnation)]]);
    this.world.give(nodeId, { type: "Facts", facts: { ...NO_FACTS, reports } });
  }

  #ask(): void {
    const nodeId = this.#random.pick(IDS.filter((id) => this.world.nodes.has(id)));
    const id = `c${this.asked.size}`;
    const made = [...this.asked].filter(([id, { isDeletion }]) =>
      !isDeletion && this.isAccepted(id)
    );
    const isDeletion = made.length > 0 && this.#random.next() < 0.3;
    const name = isDeletion ? this.#random.pick(made)[1].name : `local/${id}`;
    const modelId = ModelId.parse(name);
    this.asked.set(id, { isDeletion, name });
    this.world.ask(
      nodeId,
      isDeletion ? { type: "DeleteCustomModelCard", commandId: commandId(id), modelId } : {
        type: "AddCustomModelCard",
        commandId: commandId(id),
        modelCard: cardOf({ modelId }),
      },
    );
  }
}

Deno.test("whatever happens, members agree afterwards, and keep all that they promised", () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 3, max: 14 }), (seed, faults) => {
      const story = new Story(seed);
      for (let left = faults; left > 0; left--) story.fault();
      story.heal();
      const { world, asked } = story;
      const { state } = world.agreed();
      for (const member of world.nodes.values()) {
        equal(member.pending.size, 0, "no command waits");
        equal(member.branch, undefined, "no branch waits");
      }
      const answers = world.replies.map(({ reply }) => reply.commandId);
      equal(new Set(answers).size, answers.length, "one reply for each command");
      const deletions = [...asked].filter(([, { isDeletion }]) => isDeletion);
      for (const [id, { isDeletion, name }] of asked) {
        if (!story.isAccepted(id)) continue;
        const isThere = state.customModelCards.has(ModelId.parse(name));
        const mayBeGone = deletions.some(([, deletion]) => deletion.name === name);
        if (isDeletion) ok(!isThere, `${name} was deleted by ${id}`);
        else ok(isThere || mayBeGone, `${name} was added by ${id}`);
      }
    }),
    { numRuns: 80, seed: 7 },
  );
});

import type { Command, CommandReply } from "../../core/commands.ts";
import type { IndexedEvent } from "../../core/events.ts";
import type { MetaInstanceId } from "../../core/ids.ts";
import type { IntentKey } from "../../core/intent_key.ts";
import { closedAt, isInHistory, type Stamp } from "../../core/lineage.ts";
import type { State } from "../../core/state.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Answers after which a client cannot know whether its command was executed. */
const UNKNOWN_CODES: ReadonlySet<string> = new Set([
  "master_changed",
  "timed_out",
  "node_unreachable",
]);

/** A thing that a client asked for, under an id that is used once. */
export interface Intent {
  readonly key: IntentKey;
  /** What the client was told about its creation; absent: nothing yet, or nothing for certain. */
  creation?: "accepted" | "refused";
  deletion?: "asked" | "accepted";
  /** Where in which history it was created. */
  stamp?: Stamp;
  /** Why it may be gone although nobody deleted it. */
  excuse?: string;
  /** Why it may be there although it was deleted. */
  revived?: string;
  /** The instances at the ends of a link. */
  ends?: readonly IntentKey[];
}

/** What clients were promised, and what may still excuse that it is not so. */
export class Ledger {
  readonly intents = new Map<IntentKey, Intent>();
  readonly #retries = new Set<MetaInstanceId>();

  constructor(readonly world: World) {}

  /** Things that exist as far as clients know. */
  present(kind: string): Intent[] {
    return [...this.intents.values()].filter(({ key, creation, deletion, excuse }) =>
      key.startsWith(`${kind}:`) && creation === "accepted" && !deletion && !excuse
    );
  }

  isRetryAsked(id: MetaInstanceId): boolean {
    return this.#retries.delete(id);
  }

  asked(_: SimNode, command: Command): void {
    const key = createdBy(command);
    if (key) {
      const ends = command.type === "SetInstanceLink"
        ? [...command.prefillInstances, ...command.decodeInstances]
          .map((id) => `instance:${id}` as const)
        : undefined;
      this.intents.set(key, { key, ...(ends ? { ends } : {}) });
    }
    if (command.type === "RetryMetaInstance") this.#retries.add(command.metaInstanceId);
    const deleted = this.#deletedBy(command);
    if (deleted && !deleted.deletion) deleted.deletion = "asked";
  }

  replied(node: SimNode, command: Command, reply: CommandReply): void {
    const created = createdBy(command);
    const intent = created && this.intents.get(created);
    const deleted = this.#deletedBy(command);
    if (reply.type === "CommandRejected") {
      if (intent && !UNKNOWN_CODES.has(reply.error.code)) intent.creation = "refused";
      return;
    }
    if (intent) {
      intent.creation = "accepted";
      const isCut = intent.ends?.some((end) => !has(node.state, end));
      const isHere = has(node.state, intent.key) || intent.deletion || intent.excuse || isCut;
      this.#holds(!!isHere, "who creates reads it", () => `${node.nodeId}: ${intent.key}`);
      const { live } = this.world;
      const isAlone = !live.some((other) => other !== node && has(other.state, intent.key));
      if (isAlone && live.length > 1) this.world.marks.hit("command: answered with its node alone");
    }
    if (deleted) {
      deleted.deletion = "accepted";
      this.#holds(
        !has(node.state, deleted.key),
        "who deletes reads it",
        () => `${node.nodeId}: ${deleted.key}`,
      );
    }
  }

  /** A master has decided something. */
  happened(node: SimNode, { event, idx, epoch }: IndexedEvent): void {
    const at = () => `${node.nodeId}, event ${idx} of epoch ${epoch.clock}`;
    const stamp = { epoch, idx };
    switch (event.type) {
      case "InstanceCreated":
        return this.#created(
          `instance:${event.instance.instanceId}`,
          stamp,
          event.instance.metaInstanceId !== undefined,
        );
      case "MetaInstanceCreated":
        return this.#created(`meta:${event.metaInstance.metaInstanceId}`, stamp);
      case "CustomModelCardAdded":
        return this.#created(`card:${event.modelCard.modelId}`, stamp);
      case "InstanceLinkCreated":
        return this.#created(`link:${event.link.linkId}`, stamp);
      case "InstanceDeleted": {
        const intent = this.intents.get(`instance:${event.instanceId}`);
        if (!intent || intent.excuse !== undefined) return;
        if (event.failureError !== undefined) intent.excuse = event.failureError;
        else {this.#holds(intent.deletion !== undefined, "nothing is deleted unasked", () =>
            `${at()}: ${intent.key}`);}
        return;
      }
      case "MetaInstanceDeleted": {
        const intent = this.intents.get(`meta:${event.metaInstanceId}`);
        this.#holds(
          intent?.deletion !== undefined,
          "nothing is deleted unasked",
          () => `${at()}: meta:${event.metaInstanceId}`,
        );
        return;
      }
      case "LineageMerged": {
        for (const key of event.deleted) {
          const intent = this.intents.get(key);
          const isMeant = !intent || intent.deletion !== undefined || intent.excuse !== undefined ||
            intent.ends !== undefined;
          this.#holds(isMeant, "nothing is deleted unasked", () => `${at()}: ${key}`);
        }
        const brought = [
          ...event.metaInstances.map(({ stamp, metaInstance }) =>
            [`meta:${metaInstance.metaInstanceId}`, stamp] as const
          ),
          ...event.instances.map(({ stamp, instance }) =>
            [`instance:${instance.instanceId}`, stamp] as const
          ),
          ...event.links.map(({ stamp, link }) => [`link:${link.linkId}`, stamp] as const),
          ...event.modelCards.map(({ stamp, modelCard }) =>
            [`card:${modelCard.modelId}`, stamp] as const
          ),
        ];
        // The disk has all that came before this event, which is being written.
        const before = node.disk.fold();
        for (const [key, stamp] of brought) {
          const wasKnown = hasSeen(before, stamp) && !has(before, key);
          this.#holds(
            !wasKnown,
            "a merge brings back nothing that was deleted",
            () => `${at()}: ${key}`,
          );
        }
        return;
      }
    }
  }

  /** The disk of a node is replaced: what it alone had is lost. */
  wiped(node: SimNode): void {
    const histories = this.#others(node);
    for (const intent of this.intents.values()) {
      const { key, creation, deletion, stamp } = intent;
      if (creation === "accepted" && !intent.excuse && !histories.some((one) => has(one, key))) {
        intent.excuse = `only ${node.nodeId} had it, and was wiped`;
      }
      const knows = (one: State) => !has(one, key) && (!stamp || hasSeen(one, stamp));
      if (deletion === "accepted" && !intent.revived && !histories.some(knows)) {
        intent.revived = `only ${node.nodeId} knew that it was deleted, and was wiped`;
      }
    }
  }

  /** After healing: what was promised is so, in the state that all nodes share. */
  settle(state: State): void {
    for (const intent of this.intents.values()) {
      const { key, creation, deletion, excuse, revived, ends } = intent;
      const isThere = has(state, key);
      if (creation === "accepted" && !deletion && !excuse) {
        const isCut = ends?.some((end) => !has(state, end));
        this.#holds(isThere || isCut === true, "what was accepted is not lost", () => key);
      }
      if (deletion === "accepted" && !revived) {
        this.#holds(!isThere, "what was deleted stays deleted", () => key);
      }
      if (creation === "refused") {
        this.#holds(!isThere, "what was refused does not exist", () => key);
      }
    }
  }

  #created(key: IntentKey, stamp: Stamp, isBound = false): void {
    let intent = this.intents.get(key);
    if (!intent) {
      this.#holds(isBound, "nothing is created unasked", () => key);
      this.intents.set(key, intent = { key, excuse: "its meta-instance's" });
    }
    this.#holds(
      !intent.stamp,
      "nothing is created twice",
      () =>
        `${key}: event ${intent.stamp?.idx} of epoch ${intent.stamp?.epoch.clock}, and ` +
        `event ${stamp.idx} of epoch ${stamp.epoch.clock}`,
    );
    intent.stamp = stamp;
  }

  #deletedBy(command: Command): Intent | undefined {
    const key = deletedBy(command);
    return key && this.intents.get(key);
  }

  /** What all disks but one hold, with their branches. */
  #others(node: SimNode): State[] {
    return this.world.nodes.filter((other) => other !== node)
      .flatMap(({ disk }) => [disk.fold(), ...(disk.branch ? [disk.branch] : [])]);
  }

  #holds(condition: boolean, property: string, detail: () => string): void {
    this.world.checker.holds(condition, property, detail);
  }
}

function createdBy(command: Command): IntentKey | undefined {
  switch (command.type) {
    case "PlaceInstance":
      return `instance:${command.instanceId}`;
    case "CreateInstance":
      return `instance:${command.instance.instanceId}`;
    case "CreateMetaInstance":
      return `meta:${command.metaInstance.metaInstanceId}`;
    case "AddCustomModelCard":
      return `card:${command.modelCard.modelId}`;
    case "SetInstanceLink":
      return `link:${command.linkId}`;
    default:
      return undefined;
  }
}

function deletedBy(command: Command): IntentKey | undefined {
  switch (command.type) {
    case "DeleteInstance":
      return `instance:${command.instanceId}`;
    case "DeleteMetaInstance":
      return `meta:${command.metaInstanceId}`;
    case "DeleteCustomModelCard":
      return `card:${command.modelId}`;
    case "DeleteInstanceLink":
      return `link:${command.linkId}`;
    default:
      return undefined;
  }
}

/** Whether what happened at `stamp` has happened in this state's past. */
function hasSeen({ lineage, lastEventAppliedIdx }: State, stamp: Stamp): boolean {
  return isInHistory(closedAt(lineage, lastEventAppliedIdx), stamp);
}

function has(state: State, key: IntentKey): boolean {
  return state.stamps.has(key);
}

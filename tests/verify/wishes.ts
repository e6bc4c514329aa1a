/** What users ask the sides of a partition for, and what has to be so for it afterwards. */
import assert from "node:assert/strict";
import type { ApiClient } from "../../api/client.ts";
import type { StateView } from "../../api/client_state.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import type { Random } from "../support/random.ts";
import { instancesOf, ms } from "./three_nodes.ts";

/** Things from which on a user takes one away rather than asking for one more. */
const WISHES_MAX = 4;

/** Errors after which nobody knows what was done; any other says that nothing was. */
const DOUBTFUL: ReadonlySet<ErrorCode> = new Set([
  ...["timed_out", "master_changed", "node_unreachable"] as const,
]);

type Kind = "instance" | "meta-instance";

/** Something that a user has asked for. */
interface Wish {
  readonly kind: Kind;
  /** Who asked, and when, as a person reads it. */
  readonly by: string;
}

/** A request that is under way, or whose outcome nobody knows: it may have worked, or may yet. */
interface Doubt extends Wish {
  /** What it is to take away; undefined: it is to create something. */
  readonly victim: string | undefined;
}

/** Something that a user may take away. */
interface Victim {
  readonly id: string;
  readonly kind: Kind;
}

/** What is asked for wishes. */
type Wishing =
  & Pick<ApiClient, "placeInstance" | "createMetaInstance">
  & Pick<ApiClient, "deleteInstance" | "deleteMetaInstance">;

/** One side's user: what it asks for does not depend on when, or on what the other side does. */
export interface User {
  readonly node: Pick<ClusterNode, "index"> & { readonly client: Wishing };
  /** When it asks, as a person reads it. */
  readonly when: string;
  readonly random: Random;
  /** Of what both sides knew before they were cut: neither may say that it is not there. */
  readonly victims: readonly Victim[];
}

/** What users of a cluster have been promised, and what they have not heard the end of. */
export class Wishes {
  readonly #model: string;
  readonly #created = new Map<string, Wish>();
  readonly #deleted = new Map<string, string>();
  readonly #doubts = new Set<Doubt>();
  #refusals: string[] = [];

  constructor(model: string) {
    this.#model = model;
  }

  /** How many things there have to be. */
  get count(): number {
    return this.#created.size;
  }

  /** What was said to requests since the last `takeUp` that were not acknowledged. */
  get refusals(): readonly string[] {
    return this.#refusals;
  }

  /** Asks for a meta-instance that has to be from now on. */
  async declare({ client }: Pick<User["node"], "client">): Promise<void> {
    const { metaInstanceId } = await client.createMetaInstance({ model: this.#model });
    this.#created.set(metaInstanceId, { kind: "meta-instance", by: "a node before all" });
  }

  /** All that there has to be but one, so that clients always have something that answers. */
  victims(random: Random): Victim[] {
    const all = [...this.#created].map(([id, { kind }]) => ({ id, kind }));
    const spared = random.pick(all);
    return all.filter((one) => one !== spared);
  }

  /** Asks for something, or takes something away; whether that was acknowledged. */
  async ask(user: User): Promise<boolean> {
    const { random, victims } = user;
    const [choice, kind] = [random.next(), random.next()];
    const victim = random.pick(victims);
    const known = victims.length + 1;
    if (victims.length > 0 && (known >= WISHES_MAX || choice < 0.5)) {
      return await this.#takeAway(user, victim);
    }
    return await this.#create(user, kind < 0.5 ? "instance" : "meta-instance");
  }

  async #create({ node: { client, index }, when }: User, kind: Kind): Promise<boolean> {
    const model = this.#model;
    const doubt = { kind, by: `node ${index}, ${when}`, victim: undefined };
    return await this.#try(doubt, async () => {
      const id = kind === "instance"
        ? (await client.placeInstance({ model })).instanceId
        : (await client.createMetaInstance({ model })).metaInstanceId;
      return (by) => this.#created.set(id, { kind, by });
    });
  }

  async #takeAway({ node: { client, index }, when }: User, victim: Victim): Promise<boolean> {
    const { id, kind } = victim;
    const doubt = { kind, by: `node ${index}, ${when}`, victim: id };
    return await this.#try(doubt, async () => {
      if (kind === "instance") await client.deleteInstance(id);
      else await client.deleteMetaInstance(id);
      return (by) => {
        this.#created.delete(id);
        this.#deleted.set(id, by);
      };
    });
  }

  /** Whether `request` was acknowledged; it gives what then becomes of the promises. */
  async #try(
    doubt: Doubt,
    request: () => Promise<(by: string) => void>,
  ): Promise<boolean> {
    const askedAt = performance.now();
    this.#doubts.add(doubt);
    try {
      const acknowledge = await request();
      acknowledge(`${doubt.by}, within ${ms(performance.now() - askedAt)}`);
      this.#doubts.delete(doubt);
      return true;
    } catch (cause) {
      if (!isDoubtful(cause)) this.#doubts.delete(doubt);
      this.#refusals.push(`${doubt.victim === undefined ? "" : "no "}${doubt.kind}: ${cause}`);
      return false;
    }
  }

  /** What was promised and is not so. */
  brokenIn(state: StateView, where: string): string[] {
    const has = (id: string) => id in state.instances || id in state.metaInstances;
    const doubtful = new Set([...this.#doubts].map(({ victim }) => victim));
    return [
      ...[...this.#created].filter(([id]) => !has(id) && !doubtful.has(id))
        .map(([id, { kind, by }]) => `${kind} ${id} was lost ${where}, which ${by}, had created`),
      ...[...this.#deleted].filter(([id]) => has(id))
        .map(([id, by]) => `${id} came back ${where}, which ${by}, had deleted`),
    ];
  }

  /**
   * Has what nobody was promised counted with the rest from now on, where a request whose outcome
   * is not known may have made it, each one thing at most; and no longer what one may have taken
   * away and is not there. To be called while no request is under way.
   * @throws when there is more than that, such as something that one request has made twice.
   */
  takeUp(state: StateView): void {
    const plain = instancesOf(state).filter(([, { metaInstanceId }]) => !metaInstanceId);
    const found = new Map<string, Kind>([
      ...Object.keys(state.metaInstances).map((id) => [id, "meta-instance"] as const),
      ...plain.map(([id]) => [id, "instance"] as const),
    ]);
    const creations: Doubt[] = [];
    for (const doubt of this.#doubts) {
      if (doubt.victim === undefined) creations.push(doubt);
      else if (!found.has(doubt.victim)) this.#created.delete(doubt.victim);
    }
    for (const [id, kind] of found) {
      if (this.#created.has(id)) continue;
      const at = creations.findIndex((wish) => wish.kind === kind);
      const [wish] = creations.splice(at, at < 0 ? 0 : 1);
      assert.ok(wish, `nobody has asked for ${kind} ${id}`);
      this.#created.set(id, wish);
    }
    this.#doubts.clear();
    this.#refusals = [];
  }
}

/** Whether the error leaves open what was done. One that is not of the table is our own mistake. */
function isDoubtful(cause: unknown): boolean {
  if (!(cause instanceof AppError)) throw cause;
  return DOUBTFUL.has(cause.code);
}

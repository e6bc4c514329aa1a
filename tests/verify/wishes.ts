/** What users ask the sides of a partition for, and what has to be so for it afterwards. */
import assert from "node:assert/strict";
import type { StateView } from "../../api/client_state.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import type { Random } from "../support/random.ts";
import { instancesOf, ms } from "./three_nodes.ts";

/** Things that are asked for at a time, at most. */
const WISHES_MAX = 4;

/** Something that a user has asked for. */
interface Wish {
  readonly kind: "instance" | "meta-instance";
  /** Who asked, and when, as a person reads it. */
  readonly by: string;
}

/** What users of a cluster have been promised, and what they have not heard the end of. */
export class Wishes {
  readonly #model: string;
  readonly #created = new Map<string, Wish>();
  readonly #deleted = new Map<string, string>();
  /** Requests since the last `takeUp` that got no answer, or a refusal: each may have worked. */
  readonly #unheard = {
    creations: [] as Wish[],
    deletions: new Map<string, Wish>(),
    refusals: [] as string[],
  };

  constructor(model: string) {
    this.#model = model;
  }

  /** How many things there have to be. */
  get count(): number {
    return this.#created.size;
  }

  /** What was said to requests since the last `takeUp` that may have worked, or may not. */
  get refusals(): readonly string[] {
    return [...this.#unheard.refusals];
  }

  /** Asks for a meta-instance that has to be from now on. */
  async declare({ client }: ClusterNode): Promise<void> {
    const { metaInstanceId } = await client.createMetaInstance({ model: this.#model });
    this.#created.set(metaInstanceId, { kind: "meta-instance", by: "a node before all" });
  }

  /** Asks for something, or takes something away; whether that was acknowledged. */
  async ask({ client, index }: ClusterNode, when: string, random: Random): Promise<boolean> {
    const [choice, kind] = [random.next(), random.next()];
    const victim = random.pick([...this.#created.keys()]);
    const askedAt = performance.now();
    const by = () => `node ${index}, ${when}, within ${ms(performance.now() - askedAt)}`;
    if (this.count >= WISHES_MAX || (this.count > 1 && choice < 0.5)) {
      return await this.#takeAway(client, victim, by);
    }
    return await this.#create(client, kind < 0.5 ? "instance" : "meta-instance", by);
  }

  async #create(
    client: ClusterNode["client"],
    kind: Wish["kind"],
    by: () => string,
  ): Promise<boolean> {
    const model = this.#model;
    try {
      const id = kind === "instance"
        ? (await client.placeInstance({ model })).instanceId
        : (await client.createMetaInstance({ model })).metaInstanceId;
      this.#created.set(id, { kind, by: by() });
      return true;
    } catch (cause) {
      // A side that has no master yet may refuse; whether it happened shows later.
      this.#unheard.creations.push({ kind, by: by() });
      this.#unheard.refusals.push(`${kind}: ${cause}`);
      return false;
    }
  }

  async #takeAway(
    client: ClusterNode["client"],
    victim: string,
    by: () => string,
  ): Promise<boolean> {
    const of = this.#created.get(victim);
    assert.ok(of);
    // From here on it may be gone; it must be, once that is acknowledged.
    this.#created.delete(victim);
    try {
      if (of.kind === "instance") await client.deleteInstance(victim);
      else await client.deleteMetaInstance(victim);
      this.#deleted.set(victim, by());
      return true;
    } catch (cause) {
      this.#unheard.deletions.set(victim, of);
      this.#unheard.refusals.push(`no ${of.kind}: ${cause}`);
      return false;
    }
  }

  /** What was promised and is not so. */
  brokenIn(state: StateView, where: string): string[] {
    const has = (id: string) => id in state.instances || id in state.metaInstances;
    return [
      ...[...this.#created].filter(([id]) => !has(id))
        .map(([id, { kind, by }]) => `${kind} ${id} was lost ${where}, which ${by}, had created`),
      ...[...this.#deleted].filter(([id]) => has(id))
        .map(([id, by]) => `${id} came back ${where}, which ${by}, had deleted`),
    ];
  }

  /**
   * Has what nobody was promised counted with the rest from now on, where a request whose outcome
   * is not known may have made it, each one thing at most, or may not have taken it away.
   * @throws when there is more than that, such as something that one request has made twice.
   */
  takeUp(state: StateView): void {
    const { creations, deletions, refusals } = this.#unheard;
    const plain = instancesOf(state).filter(([, { metaInstanceId }]) => !metaInstanceId);
    const found = [
      ...Object.keys(state.metaInstances).map((id) => ({ id, kind: "meta-instance" as const })),
      ...plain.map(([id]) => ({ id, kind: "instance" as const })),
    ];
    for (const { id, kind } of found.filter(({ id }) => !this.#created.has(id))) {
      const at = creations.findIndex((wish) => wish.kind === kind);
      const wish = deletions.get(id) ?? creations.splice(at, at < 0 ? 0 : 1)[0];
      assert.ok(wish, `nobody has asked for ${kind} ${id}`);
      this.#created.set(id, wish);
    }
    creations.length = 0;
    refusals.length = 0;
    deletions.clear();
  }
}

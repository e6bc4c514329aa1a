import type { Command, CommandReply } from "../../core/commands.ts";
import { CommandId, InstanceId, InstanceLinkId, MetaInstanceId, ModelId } from "../../core/ids.ts";
import { MetaInstanceSpec } from "../../core/meta_instance.ts";
import { ModelCard } from "../../core/model_card.ts";
import { place } from "../../core/placement.ts";
import { PlacementRequest } from "../../core/placement_request.ts";
import { NO_TELEMETRY, type Telemetry } from "../../core/telemetry.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Most things of one kind that clients keep alive at once. */
const PRESENT_MAX = 6;

/** Clients that ask any node for anything, at random. */
export class Load {
  #ids = 0;

  constructor(readonly world: World) {}

  /** One request of one client. */
  act(): void {
    const { random, live } = this.world;
    if (live.length === 0) return;
    const node = random.pick(live);
    const dice = random.below(100);
    if (dice < 40) return this.#generate(node);
    if (dice < 52) return this.#place(node);
    if (dice < 58) return this.#create(node);
    if (dice < 66) return this.#delete(node, "instance");
    if (dice < 78) return this.#wish(node);
    if (dice < 82) return this.#delete(node, "meta");
    if (dice < 86) return this.#retry(node);
    if (dice < 91) return this.#addCard(node);
    if (dice < 93) return this.#delete(node, "card");
    if (dice < 97) return this.#link(node);
    return this.#delete(node, "link");
  }

  /** Everything that clients have is deleted, from one node. */
  deleteAll(node: SimNode): void {
    for (const id of node.state.instanceLinks.keys()) this.#ask(node, deletion("link", id, this));
    for (const id of node.state.metaInstances.keys()) this.#ask(node, deletion("meta", id, this));
    for (const [id, { metaInstanceId }] of node.state.instances) {
      if (!metaInstanceId) this.#ask(node, deletion("instance", id, this));
    }
  }

  /** What nobody uses any more. */
  deleteCards(node: SimNode): void {
    for (const id of node.state.customModelCards.keys()) {
      this.#ask(node, deletion("card", id, this));
    }
  }

  newId(kind: string): string {
    return `${kind}${this.#ids++}`;
  }

  #ask(node: SimNode, command: Command, then: (reply: CommandReply) => void = () => {}): void {
    node.submit(command, then);
  }

  #commandId(): CommandId {
    return CommandId.parse(this.newId("c"));
  }

  #generate(node: SimNode): void {
    const { random } = this.world;
    const models = [...node.state.instances.values()]
      .map(({ shardAssignments }) => shardAssignments.modelId);
    const modelId = models.length > 0 ? random.pick(models) : this.#model().modelId;
    const generation = node.api?.generate(modelId, 1 + random.below(60));
    if (!generation || random.below(4) > 0) return;
    node.later(random.below(6_000), () => {
      if (generation.answer) return;
      this.world.marks.hit("fault: client gone");
      node.api?.leave(generation);
    });
  }

  /** A model of the catalogue, or one that a client has added. */
  #model(): ModelCard {
    const { random, models } = this.world;
    return random.pick([...models.values()]).card;
  }

  #request(card: ModelCard, node: SimNode): PlacementRequest {
    const { random } = this.world;
    const ids = [...node.state.nodes.keys()];
    const some = <T>(ratio: number, value: () => T) =>
      random.below(100) < ratio ? value() : undefined;
    const nodeIds = ids.length > 0 ? some(15, () => [random.pick(ids)]) : undefined;
    const excludedNodeIds = ids.length > 1 ? some(8, () => [random.pick(ids)]) : undefined;
    return PlacementRequest.parse({
      modelId: card.modelId,
      minNodes: random.below(3) === 0 ? 1 + random.below(3) : 1,
      sharding: random.below(4) === 0 ? "Tensor" : "Pipeline",
      ...(this.world.isCabled && random.below(2) === 0 ? { instanceMeta: "MlxJaccl" } : {}),
      prefer: random.pick(["smallest", "smallest", "latency", "throughput", "widest"]),
      ...(nodeIds ? { nodeIds } : {}),
      ...(excludedNodeIds ? { excludedNodeIds } : {}),
    });
  }

  #isFull(kind: string): boolean {
    return this.world.checker.ledger.present(kind).length >= PRESENT_MAX;
  }

  #place(node: SimNode): void {
    if (this.#isFull("instance")) return this.#delete(node, "instance");
    const card = this.#model();
    const request = this.#request(card, node);
    const instanceId = InstanceId.parse(this.newId("i"));
    const commandId = this.#commandId();
    this.#ask(node, { type: "PlaceInstance", commandId, instanceId, request, modelCard: card });
  }

  /** An instance that a client has put together itself, from a preview. */
  #create(node: SimNode): void {
    if (this.#isFull("instance")) return;
    const card = this.#model();
    const instanceId = InstanceId.parse(this.newId("i"));
    const telemetry: Telemetry = node.member?.telemetry ?? NO_TELEMETRY;
    const request = this.#request(card, node);
    const placed = place(node.state, telemetry, { instanceId, card, request });
    if (!placed.ok) return;
    const commandId = this.#commandId();
    this.#ask(node, { type: "CreateInstance", commandId, instance: placed.instance });
  }

  #wish(node: SimNode): void {
    if (this.#isFull("meta")) return this.#delete(node, "meta");
    const { random } = this.world;
    const known = this.#model();
    const isUnknown = random.below(12) === 0;
    const modelId = isUnknown ? ModelId.parse("org/nobody-knows") : known.modelId;
    const hasCard = !isUnknown && random.below(2) === 0;
    const metaInstance = MetaInstanceSpec.parse({
      ...this.#request(known, node),
      modelId,
      metaInstanceId: MetaInstanceId.parse(this.newId("m")),
      pin: random.pick(["strict", "prefer"]),
      maxRetries: random.below(5),
    });
    this.#ask(node, {
      type: "CreateMetaInstance",
      commandId: this.#commandId(),
      metaInstance,
      instanceId: InstanceId.parse(this.newId("b")),
      ...(hasCard ? { modelCard: known } : {}),
    });
  }

  #retry(node: SimNode): void {
    const { random } = this.world;
    const metas = [...node.state.metaInstances.values()];
    const parked = metas.filter(({ phase }) => phase === "parked" || phase === "retrying");
    const from = parked.length > 0 ? parked : metas;
    if (from.length === 0) return;
    const { metaInstanceId } = random.pick(from);
    const commandId = this.#commandId();
    this.#ask(node, { type: "RetryMetaInstance", commandId, metaInstanceId });
  }

  #addCard(node: SimNode): void {
    if (this.#isFull("card")) return this.#delete(node, "card");
    const modelId = ModelId.parse(`local/${this.newId("card")}`);
    const modelCard = ModelCard.parse({ ...this.#model(), modelId, isCustom: true });
    this.#ask(node, { type: "AddCustomModelCard", commandId: this.#commandId(), modelCard });
  }

  #link(node: SimNode): void {
    const { random } = this.world;
    const ids = [...node.state.instances.values()]
      .filter(({ metaInstanceId }) => !metaInstanceId)
      .map(({ instanceId }) => instanceId);
    if (ids.length < 2 || this.#isFull("link")) return;
    const prefill = random.pick(ids);
    const decode = random.pick(ids.filter((id) => id !== prefill));
    this.#ask(node, {
      type: "SetInstanceLink",
      commandId: this.#commandId(),
      linkId: InstanceLinkId.parse(this.newId("l")),
      prefillInstances: [prefill],
      decodeInstances: [decode],
    });
  }

  #delete(node: SimNode, kind: "instance" | "meta" | "card" | "link"): void {
    const present = this.world.checker.ledger.present(kind);
    if (present.length === 0) return;
    const { key } = this.world.random.pick(present);
    this.#ask(node, deletion(kind, key.slice(kind.length + 1), this));
  }
}

function deletion(kind: "instance" | "meta" | "card" | "link", id: string, load: Load): Command {
  const commandId = CommandId.parse(load.newId("c"));
  switch (kind) {
    case "instance":
      return { type: "DeleteInstance", commandId, instanceId: InstanceId.parse(id) };
    case "meta":
      return { type: "DeleteMetaInstance", commandId, metaInstanceId: MetaInstanceId.parse(id) };
    case "card":
      return { type: "DeleteCustomModelCard", commandId, modelId: ModelId.parse(id) };
    case "link":
      return { type: "DeleteInstanceLink", commandId, linkId: InstanceLinkId.parse(id) };
  }
}

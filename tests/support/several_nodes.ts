import { isDeepStrictEqual } from "node:util";
import type { z } from "zod";
import type { FakeScript } from "../../engines/fake.ts";
import type { Chunk } from "../../core/chunk.ts";
import { assert } from "../../core/errors.ts";
import type { InstanceId, ModelId } from "../../core/ids.ts";
import { type Instance, nodesByRank } from "../../core/instance.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import type { Transport } from "../../net/transport.ts";
import type { Node } from "../../node/node.ts";
import { stateToJson } from "../../core/state.ts";
import { eventually } from "./eventually.ts";
import { TempDir } from "./temp_dir.ts";
import { addTinyModel, createInstance, startTestNode, until } from "./test_node.ts";

/** Where ranks meet: all nodes are of one machine. */
const LOOPBACK = "/ip4/127.0.0.1/tcp/1";

type Script = z.input<typeof FakeScript>;

/** A node of several in this process. */
export interface Member {
  readonly node: Node;
  readonly transport: Transport;
  readonly dataDir: string;
}

/** Real nodes of one process on one memory network; those that still run are stopped at the end. */
export class SeveralNodes {
  readonly network = new MemoryNetwork({ addressOf: () => LOOPBACK });
  readonly #dir: TempDir;
  readonly #members: Member[] = [];

  private constructor(dir: TempDir) {
    this.#dir = dir;
  }

  /** A node for each script, one after the other: the first leads. */
  static async start(scripts: readonly Script[]): Promise<SeveralNodes> {
    const several = new SeveralNodes(await TempDir.make());
    try {
      for (const script of scripts) await several.add(script);
    } catch (cause) {
      await several[Symbol.asyncDispose]();
      throw cause;
    }
    return several;
  }

  /** The first three of them, in the order in which they were started. */
  get members(): readonly [Member, Member, Member] {
    return this.#members as unknown as readonly [Member, Member, Member];
  }

  /** An instance as a node knows it. */
  instance({ node }: Member, instanceId: InstanceId): Instance {
    const instance = node.state().instances.get(instanceId);
    assert(instance, `${instanceId} is not there`);
    return instance;
  }

  /** One node more, whose runners are fake engines with this script. */
  async add(script: Script = {}): Promise<Member> {
    const name = String.fromCharCode("a".charCodeAt(0) + this.#members.length);
    return await this.#start(`${this.#dir.path}/${name}`, name, script);
  }

  /** The process of a node dies: nobody hears its last words. Then it starts on the same disk. */
  async restart({ node, transport, dataDir }: Member, script: Script = {}): Promise<Member> {
    await transport.close();
    await node.stop();
    return await this.#start(dataDir, dataDir.at(-1) ?? "", script);
  }

  /** Registers a tiny model on a node; the same for all nodes that are given it. */
  async addModel({ node, dataDir }: Member): Promise<ModelId> {
    const { modelId } = await addTinyModel(node, `${dataDir}/models/tiny`);
    return modelId;
  }

  /** The same model on all of them, once they know all ways between them. */
  async addModelToAll(): Promise<ModelId> {
    const [first, ...others] = this.#members;
    assert(first, "there is a node");
    const modelId = await this.addModel(first);
    for (const member of others) await this.addModel(member);
    await untilLinked(...this.#members);
    // Only who has told its addresses is known to be of the same machine as another.
    await until(first.node, "all addresses are known", ({ nodes }) => {
      return this.#members.every(({ node }) => (nodes.get(node.nodeId)?.network.length ?? 0) > 0);
    });
    return modelId;
  }

  /** The members that have the ranks of an instance, by rank. */
  ranksOf(instance: Instance): Member[] {
    return nodesByRank(instance)
      .flatMap((id) => this.#members.filter(({ node }) => node.nodeId === id));
  }

  /** A ready instance on this node and no other, asked for there. */
  async instanceOn({ node }: Member, modelId: ModelId): Promise<InstanceId> {
    return await createInstance(node, modelId, { nodeIds: [node.nodeId], exact: true });
  }

  /** The node that leads, once one of them does and all follow it. */
  async master(among: readonly Member[]): Promise<Member> {
    const leader = () => {
      const [first, ...others] = among.map(({ node }) => node.epoch()?.nodeId);
      return others.every((one) => one === first)
        ? among.find(({ node }) => node.nodeId === first)
        : undefined;
    };
    await eventually("one of them leads", () => leader() !== undefined);
    return leader() as Member;
  }

  async #start(dataDir: string, name: string, script: Script): Promise<Member> {
    const { network } = this;
    let transport: Transport | undefined;
    const node = await startTestNode(dataDir, script, {
      name,
      connect: ({ nodeId }) => Promise.resolve(transport = network.join(nodeId)),
    });
    const member = { node, transport: transport as unknown as Transport, dataDir };
    this.#members.push(member);
    return member;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#members.map(({ node }) => node.stop()));
    await this.#dir[Symbol.asyncDispose]();
  }
}

/** Waits until all of them have the same state. */
export async function untilEqual(...members: readonly Member[]): Promise<void> {
  await eventually("all states are equal", () => {
    // By value: a master writes its own facts with their fields in another order than others read.
    const [first, ...others] = members.map(({ node }) => stateToJson(node.state()));
    return others.every((one) => isDeepStrictEqual(one, first));
  });
}

/** Waits until all of them know all ways between them. */
export async function untilLinked(...members: readonly Member[]): Promise<void> {
  for (const { node } of members) {
    await until(node, "all ways are known", ({ connections }) => {
      const sinks = members.map(({ node: { nodeId } }) => connections.get(nodeId)?.size);
      return sinks.every((count) => count === members.length - 1);
    });
  }
}

/** The ids of the tokens among chunks: an endless fake engine counts from 0. */
export function tokenIds(chunks: readonly Chunk[]): number[] {
  return chunks.flatMap((chunk) => chunk.type === "Token" ? [chunk.tokenId] : []);
}

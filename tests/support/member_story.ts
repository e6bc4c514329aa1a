/** A life of three nodes with all that there is in it, for tests that tell it otherwise. */
import type { Command } from "../../core/commands.ts";
import { FORCED_SENIORITY } from "../../core/election.ts";
import { type LocalFacts, NO_FACTS, subjectOf } from "../../core/facts.ts";
import { InstanceLinkId, type NodeId } from "../../core/ids.ts";
import type { Member } from "../../core/member.ts";
import { MetaInstanceSpec } from "../../core/meta_instance.ts";
import type { Message } from "../../core/protocol.ts";
import type { NodeMemory } from "../../core/telemetry.ts";
import { socket } from "./control_plane.ts";
import {
  A,
  B,
  C,
  cardOf,
  commandId,
  downloaded,
  instanceId,
  metaInstanceId,
  MODEL,
  nodeStarted,
  placementOf,
  reported,
} from "./fixtures.ts";
import { Members } from "./members.ts";

/** A member at some moment. */
export interface Moment {
  readonly member: Member;
  readonly uptime: number;
}

/** What is asked in it, and where. */
export const STORY_COMMANDS: readonly (readonly [NodeId, Command])[] = [
  [B, { type: "AddCustomModelCard", commandId: commandId("c1"), modelCard: cardOf() }],
  [B, {
    type: "PlaceInstance",
    commandId: commandId("c2"),
    instanceId: instanceId("i"),
    request: placementOf({ minNodes: 2 }),
  }],
  [C, {
    type: "CreateMetaInstance",
    commandId: commandId("c3"),
    metaInstance: MetaInstanceSpec.parse({ ...placementOf(), metaInstanceId: "m" }),
    instanceId: instanceId("j"),
  }],
  [C, {
    type: "SetInstanceLink",
    commandId: commandId("c4"),
    linkId: InstanceLinkId.parse("L"),
    prefillInstances: [instanceId("i")],
    decodeInstances: [instanceId("j")],
  }],
  [A, { type: "TextGeneration", commandId: commandId("c5"), modelId: MODEL, apiNodeId: A }],
  [B, { type: "TextGeneration", commandId: commandId("c6"), modelId: MODEL, apiNodeId: B }],
  [B, {
    type: "TaskCancelled",
    commandId: commandId("c7"),
    cancelledCommandId: commandId("c6"),
  }],
  [C, {
    type: "RetryMetaInstance",
    commandId: commandId("c8"),
    metaInstanceId: metaInstanceId("m"),
  }],
];

/** The memory of each node in it. */
export const STORY_MEMORY: NodeMemory = { ramTotalBytes: 2 ** 34, ramAvailableBytes: 2 ** 33 };

/** What each node reports in it. */
export function storyFacts(nodeId: NodeId): LocalFacts {
  const others = [A, B, C].filter((id) => id !== nodeId);
  const ways = others.map((sink) => socket(nodeId, sink));
  const runners = ["i:0", "i:1", "j:0"].map((id) => reported(id, "RunnerReady"));
  const all = [nodeStarted(nodeId), ...ways, ...runners, downloaded(nodeId)];
  return { ...NO_FACTS, reports: new Map(all.map((event) => [subjectOf(event), event])) };
}

/** What three nodes said in a life with all that there is, and how they stood meanwhile. */
export function memberStory(): { messages: Message[]; moments: Moment[] } {
  const world = new Members();
  const messages = new Map<string, Message[]>();
  const moments: Moment[] = [];
  let cut: readonly NodeId[] = [];
  let [isLagging, isDeaf] = [false, false];
  world.wire = (from, to, message) => {
    const kind = message.type === "CommandRequest" ? message.command.type : message.type;
    const known = messages.get(kind) ?? [];
    if (known.length < 40) messages.set(kind, [...known, message]);
    moments.push({ member: world.get(from), uptime: world.uptime });
    if (isLagging && to === B && message.type === "Events") return [];
    if (isDeaf && to === C && from === B) return [];
    return cut.includes(from) === cut.includes(to) ? [1] : [];
  };
  const ids = [A, B, C];
  for (const nodeId of [A, C]) world.start(nodeId);
  world.run(4_000);
  world.start(B, { seniority: FORCED_SENIORITY });
  for (const nodeId of ids) {
    world.give(nodeId, { type: "Facts", facts: storyFacts(nodeId) });
    const links = new Map([["x", { latencyMs: 1 }]]);
    world.give(nodeId, { type: "Telemetry", memory: STORY_MEMORY, links });
  }
  world.run(4_000);
  for (const [nodeId, command] of STORY_COMMANDS) {
    world.ask(nodeId, command);
    world.run(300);
  }
  // The ranks of a group tell each other where they are; a process of the past is refused.
  for (const generation of ["i/1.1", "i/0.0"]) {
    const piece = { instanceId: instanceId("i"), generation, sequence: 0, data: "AAEC" };
    for (const nodeId of ids) world.give(nodeId, { type: "Gather", piece });
    world.run(300);
  }
  const { nodeId: master } = world.agreed();
  // The forced one is elected, and has to ask for what it missed.
  isLagging = true;
  world.ask(master, {
    type: "DeleteInstance",
    commandId: commandId("c11"),
    instanceId: instanceId("i"),
  });
  world.run(100);
  world.kill(master);
  world.run(3_000);
  isLagging = false;
  world.run(3_000);
  world.start(master);
  world.run(3_000);
  isDeaf = true;
  world.run(3_000);
  isDeaf = false;
  cut = [C];
  world.run(3_000);
  const modelCard = cardOf({ modelId: `${MODEL}-c` });
  world.ask(C, { type: "AddCustomModelCard", commandId: commandId("c9"), modelCard });
  world.ask(C, {
    type: "DeleteMetaInstance",
    commandId: commandId("c10"),
    metaInstanceId: metaInstanceId("m"),
  });
  world.run(3_000);
  cut = [];
  world.run(5_000);
  world.run(5_000);
  world.agreed();
  return { messages: [...messages.values()].flat(), moments };
}

/** Whatever a member is told: it goes on, it does not spin, and what it says can be understood. */
import { equal, ok } from "node:assert/strict";
import type { Command } from "../../core/commands.ts";
import { FORCED_SENIORITY } from "../../core/election.ts";
import { NO_FACTS, subjectOf } from "../../core/facts.ts";
import { InstanceLinkId, NodeId } from "../../core/ids.ts";
import { type Input, type Member, step, wakeAt } from "../../core/member.ts";
import { MetaInstanceSpec } from "../../core/meta_instance.ts";
import { decodeMessage, encodeMessage, Message } from "../../core/protocol.ts";
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
} from "../support/fixtures.ts";
import { socket } from "../support/control_plane.ts";
import { Members } from "../support/members.ts";
import { Random } from "../support/random.ts";

/** Mutated messages; each begins at some moment of the story and is followed by a few more. */
const TALES = 400;
const MESSAGES_A_TALE = 8;

/** A member at some moment. */
interface Moment {
  readonly member: Member;
  readonly uptime: number;
}

/** What three nodes said in a life with all that there is, and how they stood meanwhile. */
function story(): { messages: Message[]; moments: Moment[] } {
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
  const commands: readonly [NodeId, Command][] = [
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
  const ids = [A, B, C];
  for (const nodeId of [A, C]) world.start(nodeId);
  world.run(4_000);
  world.start(B, { seniority: FORCED_SENIORITY });
  for (const nodeId of ids) {
    const ways = ids.filter((id) => id !== nodeId).map((sink) => socket(nodeId, sink));
    const runners = ["i:0", "i:1", "j:0"].map((id) => reported(id, "RunnerReady"));
    const all = [nodeStarted(nodeId), ...ways, ...runners, downloaded(nodeId)];
    const reports = new Map(all.map((event) => [subjectOf(event), event]));
    world.give(nodeId, { type: "Facts", facts: { ...NO_FACTS, reports } });
    const memory = { ramTotalBytes: 2 ** 34, ramAvailableBytes: 2 ** 33 };
    world.give(nodeId, { type: "Telemetry", memory, links: new Map([["x", { latencyMs: 1 }]]) });
  }
  world.run(4_000);
  for (const [nodeId, command] of commands) {
    world.ask(nodeId, command);
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

/** One leaf of plain data changed, an element left out or doubled. */
function mutated(value: unknown, random: Random): unknown {
  if (Array.isArray(value)) {
    if (value.length === 0) return value;
    const at = random.below(value.length);
    const change = random.below(8);
    if (change === 0) return value.toSpliced(at, 1);
    if (change === 1) return value.toSpliced(at, 0, value[at]);
    if (change === 2) return value.toReversed();
    return value.with(at, mutated(value[at], random));
  }
  if (typeof value === "object" && value !== null) {
    const keys = Object.keys(value).filter((key) => key !== "type");
    if (keys.length === 0) return value;
    const key = random.pick(keys);
    const { [key]: old, ...rest } = value as Record<string, unknown>;
    if (random.below(12) === 0) return rest;
    return { ...value, [key]: mutated(old, random) };
  }
  if (typeof value === "number") {
    const other = [0, 1, -1, value + 1, value - 1, value * 2, 2 ** 31, 2 ** 40, 2 ** 53 - 1, 1e-9];
    return random.pick(other);
  }
  if (typeof value === "boolean") return !value;
  const words = [A, B, C, "node-x", "i", "j", "m", "L", "i:0", "j:0", "", "\u0000", MODEL];
  return random.pick([...words, "RunnerFailed", "RunnerReady", "Complete", "__proto__"]);
}

/** Another message that a peer could send; undefined when it would be refused as malformed. */
function variantOf(message: Message, random: Random): Message | undefined {
  let value: unknown = JSON.parse(encodeMessage(message));
  for (let left = random.below(4); left > 0; left--) value = mutated(value, random);
  return Message.safeParse(value).data;
}

function check(member: Member, input: Input, uptime: number, id: string): Member {
  // The date jumps back and forth.
  const now = 1_000_000 + uptime + (id.length % 3) * 3_600_000;
  const context = { uptime, now, freshId: id };
  const stepped = step(member, input, context);
  for (const output of stepped.outputs) {
    if (!("message" in output)) continue;
    const said = output.message;
    ok(decodeMessage(encodeMessage(said)), `peers understand ${JSON.stringify(said)}`);
  }
  const wake = wakeAt(stepped.member) ?? Infinity;
  ok(wake > uptime, `nothing is due at once again: ${wake} after ${uptime}`);
  return stepped.member;
}

Deno.test("no message makes a member fail, spin, or say what its peers would refuse", () => {
  const { messages, moments } = story();
  const kinds = new Set(messages.map(({ type }) => type));
  equal(kinds.size, Message.options.length, `every kind was said: ${[...kinds].join(", ")}`);
  const seeds = Number(Deno.env.get("FUZZ_TALES") ?? TALES);
  for (let seed = 0; seed < seeds; seed++) {
    const random = new Random(seed);
    let { member, uptime } = random.pick(moments);
    for (let left = MESSAGES_A_TALE; left > 0; left--) {
      const message = variantOf(random.pick(messages), random);
      if (!message) continue;
      uptime += random.pick([0, 1, 100, 1_100, 31_000]);
      const from = random.pick([A, B, C, NodeId.parse("node-x")]);
      try {
        member = check(member, { type: "Message", from, message }, uptime, `f-${seed}-${left}`);
      } catch (error) {
        throw new Error(`seed ${seed}: ${from} says ${JSON.stringify(message)}`, { cause: error });
      }
    }
  }
});

/** Whatever a member is told: it goes on, it does not spin, and what it says can be understood. */
import { equal, ok } from "node:assert/strict";
import { NodeId } from "../../core/ids.ts";
import { type Input, type Member, step, wakeAt } from "../../core/member.ts";
import { decodeMessage, encodeMessage, Message } from "../../core/protocol.ts";
import { A, B, C, MODEL } from "../support/fixtures.ts";
import { memberStory } from "../support/member_story.ts";
import { mutatedValue } from "../support/mutations.ts";
import { Random } from "../support/random.ts";

/** Mutated messages; each begins at some moment of the story and is followed by a few more. */
const TALES = 400;
const MESSAGES_A_TALE = 8;

/** What takes the place of a text. */
const WORDS: readonly string[] = [
  ...[A, B, C, "node-x", "i", "j", "m", "L", "i:0", "j:0", "", "\u0000", MODEL],
  ...["RunnerFailed", "RunnerReady", "Complete", "__proto__"],
];

/** Another message that a peer could send; undefined when it would be refused as malformed. */
function variantOf(message: Message, random: Random): Message | undefined {
  let value: unknown = JSON.parse(encodeMessage(message));
  for (let left = random.below(4); left > 0; left--) value = mutatedValue(value, random, WORDS);
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
  const { messages, moments } = memberStory();
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

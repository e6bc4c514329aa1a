/** Single steps of a node that is going to stop. */
import { deepEqual, equal } from "node:assert/strict";
import type { Event } from "../../core/events.ts";
import { NO_FACTS } from "../../core/facts.ts";
import { hasLeft, type Member, startMember, step } from "../../core/member.ts";
import type { Input, Output } from "../../core/member.ts";
import { EMPTY_STATE } from "../../core/state.ts";
import { A, B, fold, nodeStarted } from "../support/fixtures.ts";

const CONTEXT = { now: 1_000_000, uptime: 0, freshId: "fresh" };

const facts = (event: Event): Input => ({
  type: "Facts",
  facts: { ...NO_FACTS, reports: new Map([["node", event]]) },
});

/** A member after some inputs, and what it wanted done in the last of them. */
function after(isAlone: boolean, ...inputs: readonly Input[]): [Member, readonly Output[]] {
  const started = startMember({ nodeId: A, state: EMPTY_STATE, isAlone }, CONTEXT);
  return inputs.reduce<[Member, readonly Output[]]>(
    ([member], input) => {
      const next = step(member, input, CONTEXT);
      return [next.member, next.outputs];
    },
    [started.member, started.outputs],
  );
}

Deno.test("a node that never said that it is there has nobody to tell that it goes", () => {
  const [member] = after(false, { type: "Leave" });
  equal(member.isLeaving, true);
  equal(hasLeft(member, 0), true);
});

Deno.test("once it leaves, a node has nothing else to say", () => {
  const [member] = after(false, facts(nodeStarted(A)), { type: "Leave" }, facts(nodeStarted(A, 2)));
  deepEqual([...member.facts.reports.values()], [{ type: "NodeLeft", nodeId: A, incarnation: 1 }]);
});

Deno.test("a candidate waits for a master to tell, as long as it is in the state", () => {
  const [unknown] = after(false, facts(nodeStarted(A)), { type: "Leave" });
  equal(hasLeft(unknown, 0), true, "no log has it");
  const state = fold([{ type: "EpochStarted" }, nodeStarted(A), nodeStarted(B)]);
  const started = startMember({ nodeId: A, state, isAlone: false }, CONTEXT).member;
  const told = step(started, facts(nodeStarted(A, 2)), CONTEXT).member;
  equal(hasLeft(step(told, { type: "Leave" }, CONTEXT).member, 0), false);
});

Deno.test("a master without followers stays in its own log, and places nothing any more", () => {
  const [before] = after(true, facts(nodeStarted(A)));
  const { member, outputs } = step(before, { type: "Leave" }, { ...CONTEXT, uptime: 5_000 });
  equal(hasLeft(member, 5_000), true);
  deepEqual(member.state, before.state);
  equal(outputs.some(({ type }) => type === "Persist"), false);
});

Deno.test("a master with a follower has left once the follower has it", () => {
  const [leading] = after(true, facts(nodeStarted(A)));
  const { epoch } = leading;
  if (!epoch) throw new Error("a master reigns");
  const hear = (member: Member, idx: number) => {
    const message = { type: "Following" as const, epoch, idx };
    return step(member, { type: "Message", from: B, message }, CONTEXT).member;
  };
  const { member } = step(hear(leading, 1), { type: "Leave" }, CONTEXT);
  equal(member.state.nodes.has(A), false);
  equal(hasLeft(member, 0), false);
  equal(hasLeft(hear(member, member.state.lastEventAppliedIdx), 0), true);
});

/** Single steps of rounds on their way between a rank's node and the master. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type Input, type Member, type Output, startMember, step } from "../../core/member.ts";
import { wakeAt } from "../../core/member.ts";
import { GATHER_RETRY_MS, GATHER_TIMEOUT_MS } from "../../core/member_gathers.ts";
import type { GatherPiece } from "../../core/pending_gathers.ts";
import type { Message } from "../../core/protocol.ts";
import { headOf } from "../../core/log_tail.ts";
import { A, B, created, fold, instanceId, instanceOf, reported } from "../support/fixtures.ts";

const STATE = fold([
  { type: "EpochStarted" },
  created(instanceOf("i", [A, B])),
  reported("i:0", "RunnerIdle"),
  reported("i:1", "RunnerIdle"),
]);
const EPOCH = { clock: 1, nodeId: A };

const round = { instanceId: instanceId("i"), generation: "i/1.1", sequence: 0 };
const own: GatherPiece = { ...round, data: "AA==" };
const asked: Input = { type: "Gather", piece: own };

const context = (uptime: number) => ({ now: 1_000_000, uptime, freshId: "fresh" });

/** A member after inputs at `uptime`, and what it wanted done at last. */
function after(member: Member, uptime: number, ...inputs: readonly Input[]) {
  return inputs.reduce(
    ({ member }, input) => step(member, input, context(uptime)),
    { member, outputs: [] as readonly Output[] },
  );
}

const heard = (from: typeof A, message: Message): Input => ({ type: "Message", from, message });
const sent = (outputs: readonly Output[]) =>
  outputs.flatMap((output) =>
    output.type === "Send" && output.message.type.startsWith("Gather") ? [output] : []
  );
const ended = (outputs: readonly Output[]) =>
  outputs.flatMap((output) => output.type === "GatherEnded" ? [output.result] : []);

/** Node A, which leads. */
function master(): Member {
  return startMember({ nodeId: A, state: STATE, isAlone: true }, context(0)).member;
}

/** Node B, which follows A. */
function follower(): Member {
  const { member } = startMember({ nodeId: B, state: STATE, isAlone: false }, context(0));
  const heartbeat = { type: "Heartbeat", epoch: EPOCH, head: headOf(STATE), seniority: 1 } as const;
  return after(member, 1, { type: "PeerConnected", peer: A }, heard(A, heartbeat)).member;
}

const epochOf = (member: Member) => {
  ok(member.epoch);
  return member.epoch;
};

Deno.test("a master tells all ranks once the last piece has come, its own rank at once", () => {
  const waiting = after(master(), 1, asked);
  deepEqual(ended(waiting.outputs), []);
  const epoch = epochOf(waiting.member);
  const piece = { type: "GatherPiece" as const, epoch, ...round, data: "AQ==" };
  const full = after(waiting.member, 2, heard(B, piece));
  const pieces = ["AA==", "AQ=="];
  deepEqual(sent(full.outputs), [
    { type: "Send", to: B, message: { type: "Gathered", epoch, ...round, pieces } },
  ]);
  deepEqual(ended(full.outputs), [{ pieces }]);
  equal(full.member.gathering.size, 0);
  const again = after(full.member, 3, heard(B, piece));
  deepEqual(sent(again.outputs).length, 1, "the answer may have been lost");
  deepEqual(ended(again.outputs), []);
});

Deno.test("a master refuses what is not of the group, and drops what is of another epoch", () => {
  const leading = master();
  const epoch = epochOf(leading);
  const piece = { type: "GatherPiece" as const, epoch, ...round, data: "" };
  const refused = after(leading, 1, heard(B, { ...piece, generation: "i/0.0" }));
  const [answer] = sent(refused.outputs);
  equal(answer?.message.type, "GatherRefused");
  const stale = after(leading, 1, heard(B, { ...piece, epoch: { ...epoch, clock: 0 } }));
  equal(stale.member.dropped, leading.dropped + 1);
  const strange = after(follower(), 2, heard(A, piece));
  deepEqual(sent(strange.outputs), [], "it does not lead");
});

Deno.test("an instance that goes takes along what waits at the master", () => {
  const waiting = after(master(), 1, asked).member;
  equal(waiting.reign?.gathers.size, 1);
  const commandId = "delete" as never;
  const command = { type: "DeleteInstance" as const, commandId, instanceId: instanceId("i") };
  const gone = after(waiting, 2, { type: "Command", command }).member;
  equal(gone.reign?.gathers.size, 0);
});

Deno.test("a follower sends its piece to the master until it has an answer", () => {
  const first = after(follower(), 2, asked);
  const message = { type: "GatherPiece", epoch: EPOCH, ...own };
  deepEqual(sent(first.outputs), [{ type: "Send", to: A, message }]);
  equal(wakeAt(first.member) !== undefined, true);
  deepEqual(sent(after(first.member, 3, { type: "Tick" }).outputs), []);
  const again = after(first.member, 2 + GATHER_RETRY_MS, { type: "Tick" });
  equal(sent(again.outputs).length, 1);
  const answer = { type: "Gathered" as const, epoch: EPOCH, ...round, pieces: ["AA==", ""] };
  const done = after(again.member, 600, heard(A, answer));
  deepEqual(ended(done.outputs), [{ pieces: ["AA==", ""] }]);
  equal(after(done.member, 601, heard(A, answer)).member.dropped, done.member.dropped + 1);
});

Deno.test("an answer counts for its round alone, and from the master alone", () => {
  const waiting = after(follower(), 2, asked).member;
  const answer = { type: "Gathered" as const, epoch: EPOCH, ...round, pieces: [] };
  const wrong: Input[] = [
    heard(A, { ...answer, sequence: 1 }),
    heard(A, { ...answer, generation: "i/1.2" }),
    heard(A, { ...answer, epoch: { ...EPOCH, clock: 0 } }),
    heard("node-c" as typeof A, answer),
  ];
  for (const input of wrong) deepEqual(ended(after(waiting, 3, input).outputs), []);
  const refused = { type: "GatherRefused" as const, epoch: EPOCH, ...round, reason: "no" };
  deepEqual(ended(after(waiting, 3, heard(A, refused)).outputs), [{ refused: "no" }]);
  const anew = after(waiting, 3, { type: "Gather", piece: { ...own, generation: "i/2.2" } });
  deepEqual(ended(after(anew.member, 4, heard(A, refused)).outputs), [], "its process is gone");
});

Deno.test("without a master a piece waits, and not for ever", () => {
  const { member } = startMember({ nodeId: B, state: STATE, isAlone: false }, context(0));
  const waiting = after(member, 1, asked);
  deepEqual(sent(waiting.outputs), []);
  ok((wakeAt(waiting.member) ?? Infinity) > 1, "nothing can be sent yet");
  const late = after(waiting.member, 1 + GATHER_TIMEOUT_MS, { type: "Tick" });
  const [result] = ended(late.outputs);
  match(result && "refused" in result ? result.refused : "", /round 0 within 30 s/);
});

Deno.test("another master knows nothing of a group's rounds: the next group begins anew", () => {
  const epoch = epochOf(master());
  const piece = (fields: Partial<GatherPiece>) =>
    heard(B, { type: "GatherPiece", epoch, ...own, ...fields });
  const later = after(master(), 1, piece({ sequence: 1 }));
  equal(sent(later.outputs)[0]?.message.type, "GatherRefused");
  const restarted = fold([reported("i:1", "RunnerIdle", { incarnation: 2 })], STATE);
  const { member } = startMember({ nodeId: A, state: restarted, isAlone: true }, context(0));
  const next = { generation: "i/1.2" };
  const first = after(member, 1, { type: "Gather", piece: { ...own, ...next } });
  deepEqual(ended(after(first.member, 2, piece(next)).outputs), [{ pieces: ["AA==", "AA=="] }]);
});

import assert from "node:assert/strict";
import type { NodeId } from "../../core/ids.ts";
import {
  gather,
  type Gathered,
  type GatherPiece,
  liveGathers,
  NO_GATHERS,
} from "../../core/pending_gathers.ts";
import { A, B, C, created, fold, instanceId, instanceOf, reported } from "../support/fixtures.ts";

const STATE = fold([
  created(instanceOf("i", [B, A])),
  created(instanceOf("j", [A])),
  reported("i:0", "RunnerIdle", { incarnation: 3 }),
  reported("i:1", "RunnerIdle", { incarnation: 7 }),
]);

const I = instanceId("i");

type Sent = readonly [from: NodeId, fields?: Partial<GatherPiece>];

const piece = (from: NodeId, fields: Partial<GatherPiece> = {}): GatherPiece => ({
  instanceId: I,
  generation: "i/3.7",
  sequence: 0,
  data: `of ${from}`,
  ...fields,
});
const after = (...sent: readonly Sent[]) =>
  sent.reduce<Gathered>(
    ({ pending }, [from, fields]) => gather(pending, STATE, { from, piece: piece(from, fields) }),
    { pending: NO_GATHERS },
  );

Deno.test("a round is full once all ranks have sent, in the order of ranks", () => {
  assert.equal(after([A]).full, undefined);
  const pieces = [`of ${B}`, `of ${A}`];
  assert.deepEqual(after([A], [B]).full, { pieces, to: [B, A] });
});

Deno.test("an instance of one rank waits for nobody", () => {
  const alone = { instanceId: instanceId("j"), generation: "j/?" };
  assert.deepEqual(after([A, alone]).full?.pieces, [`of ${A}`]);
});

Deno.test("a piece that comes again replaces the first", () => {
  assert.deepEqual(after([A], [A, { data: "later" }], [B]).full?.pieces, [`of ${B}`, "later"]);
});

Deno.test("rounds follow each other, and the last one is told again to who asks again", () => {
  const next = { sequence: 1, data: "next" };
  const begun = [[A], [B], [B, next]] as const;
  assert.equal(after(...begun).full, undefined);
  assert.deepEqual(after(...begun, [A]).full, { pieces: [`of ${B}`, `of ${A}`], to: [A] });
  assert.deepEqual(after(...begun, [A], [A, next]).full?.pieces, ["next", "next"]);
  assert.match(
    after(...begun, [A, { sequence: 2 }]).refused ?? "",
    /found round 2, round 1 needed/,
  );
  const third = after(...begun, [A, next], [A, { sequence: 2 }]);
  assert.match(
    gather(third.pending, STATE, { from: B, piece: piece(B) }).refused ?? "",
    /found round 0, round 2 needed/,
  );
});

Deno.test("who has not seen a group's first round takes none of its later ones", () => {
  const { refused, pending } = after([A, { sequence: 1 }]);
  assert.match(refused ?? "", /found round 1, round 0 needed by this master/);
  assert.equal(pending, NO_GATHERS);
});

Deno.test("what is foreign is refused, with the reason", () => {
  assert.match(after([A, { instanceId: instanceId("x") }]).refused ?? "", /not known/);
  assert.match(after([C]).refused ?? "", /no rank on this node/);
  assert.match(after([A, { generation: "i/3.6" }]).refused ?? "", /others by now/);
});

Deno.test("a rank that begins anew takes nothing of the attempt before along", () => {
  const { pending } = after([A]);
  const state = fold([reported("i:0", "RunnerIdle", { incarnation: 4 })], STATE);
  const late = gather(pending, state, { from: B, piece: piece(B) });
  assert.match(late.refused ?? "", /others by now/);
  const anew = { generation: "i/4.7" };
  const first = gather(pending, state, { from: B, piece: piece(B, anew) });
  assert.equal(first.full, undefined);
  assert.equal(
    gather(first.pending, state, { from: A, piece: piece(A, anew) }).full?.pieces.length,
    2,
  );
});

Deno.test("what waits goes with its instance, and when that is tried again", () => {
  const { pending } = after([A]);
  assert.equal(liveGathers(pending, STATE), pending);
  const gone = fold([{ type: "InstanceDeleted", instanceId: I }], STATE);
  assert.equal(liveGathers(pending, gone).size, 0);
  const failureError = "";
  const retried = fold([
    { type: "InstanceRetrying", instanceId: I, failureError, notBefore: 0 } as never,
  ], STATE);
  assert.equal(liveGathers(pending, retried).size, 0);
});

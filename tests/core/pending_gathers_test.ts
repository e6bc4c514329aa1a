import assert from "node:assert/strict";
import {
  gather,
  GATHER_BYTES_MAX,
  GATHER_ROUNDS_MAX,
  type GatherPiece,
  liveGathers,
  NO_GATHERS,
  type PendingGathers,
  withoutGathers,
} from "../../core/pending_gathers.ts";
import { A, B, created, fold, instanceId, instanceOf, runnerId } from "../support/fixtures.ts";

const STATE = fold([created(instanceOf("i", [A, B])), created(instanceOf("j", [A]))]);

const piece = (rank: number, fields: Partial<GatherPiece> = {}): GatherPiece => ({
  instanceId: instanceId("i"),
  generation: 1,
  sequence: 0,
  runnerId: runnerId(`i:${rank}`),
  data: new Uint8Array([rank]),
  ...fields,
});
const gatherAll = (...pieces: readonly GatherPiece[]) =>
  pieces.reduce<ReturnType<typeof gather>>(
    ({ pending }, one) => gather(pending, STATE, one),
    { pending: NO_GATHERS },
  );
const waiting = (pending: PendingGathers) => pending.get(instanceId("i"))?.rounds.size ?? 0;

Deno.test("a round is full once all ranks have sent, in the order of ranks", () => {
  const first = gatherAll(piece(1));
  assert.equal(first.full, undefined);
  const { full, pending } = gather(first.pending, STATE, piece(0));
  assert.deepEqual(full, [new Uint8Array([0]), new Uint8Array([1])]);
  assert.equal(waiting(pending), 0);
});

Deno.test("an instance of one rank waits for nobody", () => {
  const alone = { instanceId: instanceId("j"), runnerId: runnerId("j:0") };
  assert.deepEqual(gatherAll(piece(0, alone)).full, [new Uint8Array([0])]);
});

Deno.test("rounds do not mix, and a piece that comes again replaces the first", () => {
  const data = new Uint8Array([9]);
  const { full, pending } = gatherAll(
    piece(0),
    piece(1, { sequence: 1 }),
    piece(0, { data }),
    piece(1),
  );
  assert.deepEqual(full, [data, new Uint8Array([1])]);
  assert.equal(waiting(pending), 1);
});

Deno.test("a new attempt begins anew, and pieces of the one before count for nothing", () => {
  const { pending } = gatherAll(piece(0), piece(1, { generation: 2 }));
  assert.equal(waiting(pending), 1);
  const late = gather(pending, STATE, piece(0));
  assert.equal(late.full, undefined);
  assert.match(late.refused ?? "", /found generation 1, 2 needed/);
  const again = gather(pending, STATE, piece(0, { generation: 2 }));
  assert.equal(again.full?.length, 2);
  assert.match(gather(again.pending, STATE, piece(0)).refused ?? "", /generation 1/);
});

Deno.test("what is foreign or too much is refused, with the reason", () => {
  const reason = (one: GatherPiece, pending = NO_GATHERS) => {
    const result = gather(pending, STATE, one);
    assert.equal(result.pending, pending);
    return result.refused;
  };
  assert.match(reason(piece(0, { instanceId: instanceId("x") })) ?? "", /not known/);
  assert.match(reason(piece(7)) ?? "", /runner i:7 is not one of its ranks/);
  const data = new Uint8Array(GATHER_BYTES_MAX + 1);
  assert.match(reason(piece(0, { data })) ?? "", /found 65537 bytes, 65536 at most needed/);
  const rounds = Array.from({ length: GATHER_ROUNDS_MAX }, (_, sequence) => piece(0, { sequence }));
  const { pending } = gatherAll(...rounds);
  assert.match(reason(piece(0, { sequence: 99 }), pending) ?? "", /8 rounds wait, 8 at most/);
  assert.equal(gather(pending, STATE, piece(1, { sequence: 3 })).full?.length, 2);
});

Deno.test("what waits goes with its instance, and when that is tried again", () => {
  const { pending } = gatherAll(piece(0));
  assert.equal(withoutGathers(pending, instanceId("i")).size, 0);
  assert.equal(liveGathers(pending, STATE), pending);
  const gone = fold([{ type: "InstanceDeleted", instanceId: instanceId("i") }], STATE);
  assert.equal(liveGathers(pending, gone).size, 0);
});

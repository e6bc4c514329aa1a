import assert from "node:assert/strict";
import type { GatherPiece } from "../../core/pending_gathers.ts";
import { Gathers } from "../../node/gathers.ts";
import { instanceId } from "../support/fixtures.ts";

const PIECE: GatherPiece = {
  instanceId: instanceId("i"),
  generation: "i/1.1",
  sequence: 0,
  data: "AA==",
};

function world() {
  const taken: GatherPiece[] = [];
  return { taken, gathers: new Gathers((piece) => void taken.push(piece)) };
}

Deno.test("who asks hears how the round ended, and of no other", async () => {
  const { gathers, taken } = world();
  const asked = gathers.ask(PIECE);
  assert.deepEqual(taken, [PIECE]);
  const ended = (fields: Partial<GatherPiece>, piece: string) => {
    const { data: _, ...round } = { ...PIECE, ...fields };
    gathers.ended({ type: "GatherEnded", round, result: { pieces: [piece] } });
  };
  ended({ sequence: 1 }, "later");
  ended({ generation: "i/0.1" }, "earlier");
  ended({ instanceId: instanceId("j") }, "foreign");
  ended({}, "right");
  ended({}, "again");
  assert.deepEqual(await asked, ["right"]);
});

Deno.test("a round that is refused is an error with the reason", async () => {
  const { gathers } = world();
  const asked = gathers.ask(PIECE);
  gathers.ended({ type: "GatherEnded", round: PIECE, result: { refused: "it is gone" } });
  await assert.rejects(asked, {
    code: "group_broken",
    message: /Cannot gather .* instance i .*: it is gone/,
  });
});

Deno.test("a later process of a rank ends the wait of the one before", async () => {
  const { gathers } = world();
  const before = gathers.ask(PIECE);
  const later = gathers.ask({ ...PIECE, generation: "i/2.1" });
  await assert.rejects(before, { code: "group_broken", message: /a later process/ });
  gathers.stop();
  await assert.rejects(later, { code: "group_broken", message: /the node is stopping/ });
});

import { equal } from "node:assert/strict";
import { FairShare, GENERATED_TOKEN_WEIGHT } from "../../core/fair_share.ts";

Deno.test("FairShare counts what was read and what was generated", () => {
  const share = new FairShare();
  share.arrive("a");
  share.charge("a", { read: 10, generated: 3 });
  equal(share.served("a"), 10 + 3 * GENERATED_TOKEN_WEIGHT);
});

Deno.test("FairShare lets a client begin where the one with least work stands", () => {
  const share = new FairShare();
  share.arrive("a");
  share.charge("a", { read: 100, generated: 0 });
  share.arrive("b");
  equal(share.served("b"), 100);
  share.charge("b", { read: 50, generated: 0 });
  share.arrive("c");
  equal(share.served("c"), 100);
});

Deno.test("FairShare forgets a client with its last request", () => {
  const share = new FairShare();
  share.arrive("a");
  share.arrive("a");
  share.charge("a", { read: 7, generated: 0 });
  share.leave("a");
  equal(share.served("a"), 7);
  share.leave("a");
  share.leave("a"); // Once too often does no harm.
  equal(share.served("a"), 0);
  share.charge("a", { read: 7, generated: 0 });
  equal(share.served("a"), 0);
});

import { deepEqual, equal } from "node:assert/strict";
import { runnersLines, runnersPlayers, runnersTurn } from "../../bench/runners_report.ts";

Deno.test("Runners that share the cores out have a thread each at least", () => {
  deepEqual(runnersPlayers(2, 16).map(({ count, threads }) => [count, threads]), [
    [1, undefined],
    [2, undefined],
    [2, 8],
  ]);
  equal(runnersPlayers(4, 2).at(-1)?.threads, 1);
});

Deno.test("A turn adds up what its runners made, and tells of the slowest", () => {
  const figures = [{ gapsMs: [2, 2, 2, 2] }, { gapsMs: [4, 4, 12] }];
  const turn = runnersTurn(figures, { player: "2 at once", round: 0, busyPercent: 1 });
  equal(turn.tokensPerSecond, 500 + 150);
  equal(turn.p50Ms, 4);
  equal(turn.p99Ms.toFixed(2), "11.84");
  const rest = { ...turn, tokensPerSecond: 350 };
  deepEqual(runnersLines([turn, rest, { ...turn, player: "alone" }]), [
    "2 at once                500.0 tok/s  p50    4.0 ms  p99   11.8 ms",
    "alone                    650.0 tok/s  p50    4.0 ms  p99   11.8 ms",
  ]);
});

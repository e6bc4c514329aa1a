import { deepEqual } from "node:assert/strict";
import { alternate } from "../../bench/rounds.ts";

Deno.test("alternate() plays all once, then all again, one at a time", async () => {
  const played: string[] = [];
  let running = 0;
  await alternate(["a", "b", "c"], 3, async (player, round) => {
    running++;
    await Promise.resolve();
    played.push(`${player}${round}${running}`);
    running--;
  });
  deepEqual(played, ["a01", "b01", "c01", "a11", "b11", "c11", "a21", "b21", "c21"]);
});

import { deepEqual } from "node:assert/strict";
import { compareRulers } from "./verify/ruler.ts";

const TINY = new URL("./golden/models/tiny-tied", import.meta.url).pathname;

/** A round as short as can be: what it takes is no matter here, for machines are shared. */
const SHORT = { rounds: 1, promptTokens: 20, answerTokens: 4, repeats: 1, warmups: 0 };

Deno.test("the harness of `verify ruler` asks both clients the same, and both count alike", async () => {
  const env = { EXO_ENGINE: "fake" };
  const { counts } = await compareRulers({ ...SHORT, modelPath: TINY, env });
  deepEqual(counts.ours, { promptTokens: 20, completionTokens: 4 });
  deepEqual(counts.theirs, counts.ours);
});

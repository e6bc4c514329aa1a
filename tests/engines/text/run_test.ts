import { deepEqual, equal } from "node:assert/strict";
import { resolveSampling } from "../../../core/sampling.ts";
import type { GenerationTask } from "../../../engines/engine.ts";
import { Generation } from "../../../engines/text/generation.ts";
import { Run } from "../../../engines/text/run.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { ggufTokenizer, goldenPath, task } from "../golden.ts";

await ensureSetup();

const tokenizer = ggufTokenizer(goldenPath("models/tiny-gguf.gguf"));

/** A request of four tokens that came at 7. */
function submitted(changes: Partial<GenerationTask["payload"]> = {}): Run {
  const generation = new Generation({
    ...{ promptIds: [1, 2, 3, 4], sampling: resolveSampling({}), seed: 0n, maxTokens: 9 },
    ...{ stop: [], eosIds: new Set<number>() },
  }, { tokenizer, submittedAt: 7 });
  const made = { arrival: 3, prefixKey: "1,2,3,4", generation, submittedAt: 7 };
  return new Run(task("a", "hi", changes), made);
}

Deno.test("Run is what the scheduler asks for: all of the prompt is to come", () => {
  const { taskId, client, arrival, pendingTokens, isStarted, waitingSince } = submitted();
  deepEqual(
    { taskId, client, arrival, pendingTokens, isStarted, waitingSince },
    { taskId: "a", client: "", arrival: 3, pendingTokens: 4, isStarted: false, waitingSince: 7 },
  );
  equal(submitted({ client: "home/ada" }).client, "home/ada");
});

Deno.test("Run is like no other where its prefix is not kept: there is nothing to wait for", () => {
  equal(submitted().prefixKey, "1,2,3,4");
  equal(submitted({ usePrefixCache: true }).prefixKey, "1,2,3,4");
  equal(submitted({ usePrefixCache: false }).prefixKey, "a");
  const { generation } = submitted();
  const none = { arrival: 0, prefixKey: undefined, generation, submittedAt: 0 };
  equal(new Run(task("b", "hi", {}), none).prefixKey, "b");
});

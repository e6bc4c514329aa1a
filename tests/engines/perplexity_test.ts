import { equal, ok } from "node:assert/strict";
import { usesCpuKernels } from "../../engines/decoder.ts";
import { ensureSetup, KV_DTYPES } from "../../ffi/mod.ts";
import {
  PERPLEXITY_CHANGE_MAX,
  perplexityOf,
  perplexityRecording,
  predictOnOurs,
} from "../verify/perplexity.ts";
import { SMOLLM2 } from "./golden.ts";

await ensureSetup();

/** Windows of the text that are predicted here; `deno task verify perplexity` predicts all. */
const WINDOWS = 2;

Deno.test({
  name: "Our kernels predict a text as well as MLX's own, with a cache of any type",
  ignore: SMOLLM2 === undefined || !usesCpuKernels(), // Needs EXO_TEST_SMOLLM2_GGUF, and a CPU.
  async fn() {
    const recorded = perplexityRecording();
    const wanted = perplexityOf(recorded, WINDOWS);
    for (const kvDtype of KV_DTYPES) {
      const ours = await predictOnOurs(SMOLLM2 ?? "", { windows: WINDOWS, kvDtype });
      equal(ours.nats.length, WINDOWS);
      const change = perplexityOf(ours) / wanted - 1;
      ok(
        Math.abs(change) < PERPLEXITY_CHANGE_MAX[kvDtype],
        `${kvDtype}: ${perplexityOf(ours)}, ${wanted} recorded`,
      );
    }
  },
});

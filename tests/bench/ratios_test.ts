import { deepEqual, equal } from "node:assert/strict";
import { ratiosOf } from "../../bench/ratios.ts";
import { suiteReport } from "./suite_fixture.ts";

Deno.test("ratiosOf() divides ours by each peer's, and says which way is better", () => {
  const { servers, llamaBench } = suiteReport();
  const found = ratiosOf(servers, llamaBench);
  deepEqual(
    found.map(({ peer, metric, ratio, better }) => [peer, metric, ratio, better]),
    [
      ["mlx-lm", "prompt, pp 64", 4, "higher"],
      ["mlx-lm", "decode, tg 16", 4, "higher"],
      ["mlx-lm", "first token, pp 64", 0.25, "lower"],
      ["mlx-lm", "load to first answer", 0.5, "lower"],
      ["mlx-lm", "peak memory of the model's process", 0.5, "lower"],
      ["llama.cpp", "prompt, pp 64", 0.5, "higher"],
      ["llama.cpp", "decode, tg 16", 0.5, "higher"],
      ["llama.cpp", "first token, pp 64", 2, "lower"],
      ["llama.cpp", "load to first answer", 2, "lower"],
      ["llama.cpp", "load to ready", 2, "lower"],
      ["llama.cpp", "LoadModel to Loaded, against start to ready", 0.5, "lower"],
      ["llama.cpp", "peak memory of the model's process", 2, "lower"],
      ["llama-bench", "prompt, pp 64", 0.4, "higher"],
      ["llama-bench", "decode, tg 16", 0.4, "higher"],
    ],
  );
});

Deno.test("ratiosOf() has nothing to say of a figure that one side lacks", () => {
  const { servers } = suiteReport();
  const [exo, mlxLm] = servers;
  if (!exo || !mlxLm) throw new Error("no servers");
  const none = { loadMs: null, firstAnswerMs: null, loadPartsMs: {}, peakBytes: {}, cells: [] };
  deepEqual(ratiosOf([exo, { ...mlxLm, medians: none }], null), []);
  equal(ratiosOf([exo], null).length, 0);
});

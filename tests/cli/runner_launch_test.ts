import assert from "node:assert/strict";
import { runnerLaunch } from "../../cli/host.ts";

const envOf = (env: Record<string, string>) => runnerLaunch(env, undefined).env;

Deno.test("runners on a Mac's GPU wait the fast way unless they are told not to", () => {
  assert.equal(envOf({})["MLX_METAL_FAST_SYNCH"], "1");
  assert.equal(envOf({ EXO_FAST_SYNCH: "true" })["MLX_METAL_FAST_SYNCH"], "1");
  assert.equal(envOf({ EXO_FAST_SYNCH: "false" })["MLX_METAL_FAST_SYNCH"], "0");
});

Deno.test("a runner is not told the node's secrets", () => {
  const env = envOf({ EXO_API_KEY: "a", EXO_CLUSTER_SECRET: "b", HF_TOKEN: "c", EXO_MODELS: "d" });
  assert.deepEqual(
    ["EXO_API_KEY", "EXO_CLUSTER_SECRET", "HF_TOKEN", "EXO_MODELS"].map((name) => env[name]),
    [undefined, undefined, undefined, "d"],
  );
});

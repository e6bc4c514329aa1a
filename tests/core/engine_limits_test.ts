import { deepEqual, throws } from "node:assert/strict";
import { engineLimits } from "../../core/engine_limits.ts";

const limits = (env: Record<string, string>) => engineLimits((name) => env[name]);

Deno.test("engineLimits() says nothing where the environment says nothing", () => {
  const nothing = {
    kvCacheBytes: undefined,
    prefixCacheBytes: undefined,
    runningMax: undefined,
    remotePrefill: undefined,
  };
  deepEqual(limits({}), nothing);
  deepEqual(
    limits({ EXO_KV_CACHE_BYTES: " ", EXO_MAX_CONCURRENT_REQUESTS: "", EXO_REMOTE_PREFILL: "" }),
    nothing,
  );
});

Deno.test("engineLimits() reads whole numbers", () => {
  const env = {
    EXO_KV_CACHE_BYTES: "1000000",
    EXO_PREFIX_CACHE_BYTES: "0",
    EXO_MAX_CONCURRENT_REQUESTS: "4",
  };
  const { remotePrefill: _, ...numbers } = limits(env);
  deepEqual(numbers, { kvCacheBytes: 1_000_000, prefixCacheBytes: 0, runningMax: 4 });
});

Deno.test("engineLimits() reads when prompts are read elsewhere", () => {
  for (const mode of ["auto", "always", "never"] as const) {
    deepEqual(limits({ EXO_REMOTE_PREFILL: ` ${mode} ` }).remotePrefill, mode);
  }
  throws(() => limits({ EXO_REMOTE_PREFILL: "yes" }), {
    code: "usage",
    message: 'Cannot use EXO_REMOTE_PREFILL="yes": auto, always, never needed',
  });
});

Deno.test("engineLimits() refuses what is no such number, and names it", () => {
  const wrong = [
    ["EXO_KV_CACHE_BYTES", "0"],
    ["EXO_KV_CACHE_BYTES", "1G"],
    ["EXO_PREFIX_CACHE_BYTES", "-1"],
    ["EXO_MAX_CONCURRENT_REQUESTS", "1.5"],
    ["EXO_MAX_CONCURRENT_REQUESTS", "2000"],
  ];
  for (const [name = "", value = ""] of wrong) {
    throws(() => limits({ [name]: value }), {
      code: "usage",
      message: new RegExp(`^Cannot use ${name}="${value}": a whole number of .* needed$`),
    });
  }
});

import assert from "node:assert/strict";
import {
  estimatePrefill,
  prefersRemote,
  type PrefillChoice,
  REMOTE_BANDWIDTH_SHARE,
  REMOTE_OVERHEAD_MS,
  REMOTE_TOKENS_MIN,
} from "../../core/prefill_choice.ts";

/** 4,000 tokens at 500 per second: 8 s here. */
const CHOICE: PrefillChoice = {
  uncachedTokens: 4_000,
  remoteTokens: 3_968,
  kvBytesPerToken: 100_000,
  localTokensPerSecond: 500,
  rates: { tokensPerSecond: 4_000, bitsPerSecond: 8e9 },
};

Deno.test("a remote prefill takes a handshake, computing, carrying, and the rest here", () => {
  const estimate = estimatePrefill(CHOICE);
  assert.ok(estimate);
  assert.equal(estimate.localMs, 8_000);
  const carryMs = 3_968 * 100_000 / (1e9 * REMOTE_BANDWIDTH_SHARE) * 1000;
  assert.equal(estimate.remoteMs, REMOTE_OVERHEAD_MS + carryMs + 992 + 64);
  assert.ok(prefersRemote(CHOICE));
});

Deno.test("a link or a node that is too slow is not asked", () => {
  const slowLink = { ...CHOICE, rates: { tokensPerSecond: 4_000, bitsPerSecond: 0.3e9 } };
  assert.ok(!prefersRemote(slowLink));
  assert.ok(!prefersRemote({ ...CHOICE, rates: { tokensPerSecond: 500, bitsPerSecond: 8e9 } }));
});

Deno.test("what is not known is not hoped for", () => {
  for (const rates of [{}, { tokensPerSecond: 4_000 }, { bitsPerSecond: 8e9 }]) {
    assert.equal(estimatePrefill({ ...CHOICE, rates }), undefined);
    assert.ok(!prefersRemote({ ...CHOICE, rates }));
  }
  assert.ok(!prefersRemote({ ...CHOICE, localTokensPerSecond: undefined }));
});

Deno.test("over 1,000 tokens must be missing, and some of them the other's to compute", () => {
  const fast = { tokensPerSecond: 1e6, bitsPerSecond: 1e12 };
  const of = (uncachedTokens: number) => ({ ...CHOICE, uncachedTokens, rates: fast });
  assert.equal(REMOTE_TOKENS_MIN, 1_000);
  for (const mode of ["auto", "always"] as const) {
    assert.ok(!prefersRemote({ ...of(1_000), remoteTokens: 992 }, mode));
    assert.ok(prefersRemote({ ...of(1_001), remoteTokens: 992 }, mode));
    assert.ok(!prefersRemote({ ...of(1_001), remoteTokens: 0 }, mode));
  }
});

Deno.test("people may say always or never", () => {
  assert.ok(prefersRemote({ ...CHOICE, rates: {} }, "always"));
  assert.ok(!prefersRemote(CHOICE, "never"));
});

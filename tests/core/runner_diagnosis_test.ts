import assert from "node:assert/strict";
import { diagnosis } from "../../core/runner_diagnosis.ts";

const METAL = "[METAL] Command buffer execution failed: Caused GPU Timeout Error";
const receiving = (socket: number, errno: number) =>
  `[ring] Receiving from socket ${socket} failed with errno ${errno}`;

Deno.test("a GPU that took too long is named", () => {
  assert.match(diagnosis(["loading", METAL]) ?? "", /GPU took too long .* Metal/);
});

Deno.test("of errors of a ring's sockets the last counts, with its meaning", () => {
  const lines = [receiving(12, 54), "x", receiving(14, 104), receiving(15, 999)];
  assert.equal(diagnosis(lines), "MLX's ring could not receive from socket 15: errno 999");
  const last = "MLX's ring could not receive from socket 14: ECONNRESET, the other end broke off";
  assert.equal(diagnosis(lines.slice(0, 3)), last);
});

Deno.test("several causes are told together", () => {
  const lines = ["[ring] Too many send/recv errors. Aborting...", METAL];
  assert.match(diagnosis(lines) ?? "", /^the GPU took too long .*; MLX's ring gave up/);
});

Deno.test("text that is not known says nothing", () => {
  assert.equal(diagnosis([]), undefined);
  assert.equal(diagnosis(["[ring] connected", "[METAL] ready"]), undefined);
});

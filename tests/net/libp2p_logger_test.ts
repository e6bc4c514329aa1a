import assert from "node:assert/strict";
import { silentLogger } from "../../net/libp2p_logger.ts";

Deno.test("of all that libp2p says only a full stream is heard of", () => {
  let fullCount = 0;
  const log = silentLogger(() => fullCount++).forComponent("yamux").newScope("stream");
  const full = Object.assign(new Error("too much"), { name: "StreamBufferError" });
  log("something");
  log.trace("something", full);
  log.error("abort with error - %e", new Error("another"));
  assert.equal(fullCount, 0);
  log.error("abort with error - %e", full);
  assert.equal(fullCount, 1);
});

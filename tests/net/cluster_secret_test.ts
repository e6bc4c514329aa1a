import { deepEqual, equal, match, notDeepEqual, throws } from "node:assert/strict";
import {
  clusterSecret,
  privateNetworkKey,
  SECRET_BYTES,
  SECRET_CHARS_MIN,
} from "../../net/cluster_secret.ts";

const RANDOM = Uint8Array.from({ length: SECRET_BYTES }, (_, at) => at);

Deno.test("clusterSecret() is one line that says what it is", () => {
  const secret = clusterSecret(RANDOM);
  match(secret, /^exo-cluster-secret-1-[\w-]{43}$/);
  match(clusterSecret(RANDOM.map((byte) => 255 - byte)), /^exo-cluster-secret-1-[\w-]{43}$/);
});

Deno.test("privateNetworkKey() is HKDF-SHA-256 of the text, with a label of its own", async () => {
  const secret = clusterSecret(RANDOM);
  const encoder = new TextEncoder();
  const material = await crypto.subtle
    .importKey("raw", encoder.encode(secret), "HKDF", false, ["deriveBits"]);
  const info = encoder.encode("exo private network 1");
  const salt = new Uint8Array();
  const bits = await crypto.subtle
    .deriveBits({ name: "HKDF", hash: "SHA-256", salt, info }, material, 256);
  deepEqual(privateNetworkKey(secret), new Uint8Array(bits));
});

Deno.test("white space around a secret does not count, and all else does", () => {
  const secret = clusterSecret(RANDOM);
  deepEqual(privateNetworkKey(`\n ${secret}\r\n`), privateNetworkKey(secret));
  notDeepEqual(privateNetworkKey(`${secret}a`), privateNetworkKey(secret));
});

Deno.test("a secret that is too short is refused without being told", () => {
  equal(privateNetworkKey("x".repeat(SECRET_CHARS_MIN)).length, 32);
  const short = "y".repeat(SECRET_CHARS_MIN - 1);
  for (const [text, found] of [[`${short}\n`, "31 characters"], ["", "0 characters"]] as const) {
    throws(() => privateNetworkKey(text), {
      code: "usage",
      message: `Cannot use the cluster secret: found ${found}, at least 32 needed`,
      hint: "make one, and copy it to every node: exo cluster secret new --out FILE",
    });
  }
});

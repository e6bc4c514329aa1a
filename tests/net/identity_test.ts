import assert from "node:assert/strict";
import { newIdentity, nodeIdOf } from "../../net/identity.ts";

/** The Ed25519 key whose seed is 32 times the byte 1, in libp2p's protobuf form. */
function knownKey(): Uint8Array {
  const seed = new Array(32).fill(1);
  const publicKey = [
    ..."8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c".matchAll(/../g),
  ].map(([hex]) => parseInt(hex, 16));
  return Uint8Array.from([0x08, 0x01, 0x12, 0x40, ...seed, ...publicKey]);
}

Deno.test("a node id is the libp2p PeerId of an Ed25519 key: 12D3Koo…", async () => {
  const id = nodeIdOf(await newIdentity());
  assert.match(id, /^12D3Koo[1-9A-HJ-NP-Za-km-z]{45}$/);
});

Deno.test("the same key names the same node, for ever", () => {
  assert.equal(nodeIdOf(knownKey()), nodeIdOf(knownKey()));
  assert.equal(nodeIdOf(knownKey()), "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5");
});

Deno.test("two new identities are two nodes", async () => {
  assert.notEqual(nodeIdOf(await newIdentity()), nodeIdOf(await newIdentity()));
});

Deno.test("what is no private key is refused", () => {
  assert.throws(() => nodeIdOf(new Uint8Array(0)));
  assert.throws(() => nodeIdOf(new TextEncoder().encode("not a key")));
  assert.throws(() => nodeIdOf(knownKey().subarray(0, 40)));
});

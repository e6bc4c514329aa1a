import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import { loadIdentity } from "../../node/identity.ts";
import { TempDir } from "../support/temp_dir.ts";

Deno.test("the first start makes a key that its owner alone may read", async () => {
  await using dir = await TempDir.make();
  assert.match((await loadIdentity(dir.path)).nodeId, /^12D3Koo/);
  const { mode } = await Deno.stat(`${dir.path}/identity.key`);
  assert.equal((mode ?? 0) & 0o777, 0o600);
  const files = (await Array.fromAsync(Deno.readDir(dir.path))).map(({ name }) => name);
  assert.deepEqual(files, ["identity.key"]);
});

Deno.test("the identity survives, and another directory is another node", async () => {
  await using dir = await TempDir.make();
  await using other = await TempDir.make();
  const first = await loadIdentity(dir.path);
  assert.deepEqual(await loadIdentity(dir.path), first);
  assert.notEqual((await loadIdentity(other.path)).nodeId, first.nodeId);
});

Deno.test("half a key, left by a crash, does not count", async () => {
  await using dir = await TempDir.make();
  await Deno.writeTextFile(`${dir.path}/identity.key.new`, "half", { mode: 0o644 });
  const id = await loadIdentity(dir.path);
  assert.deepEqual(await loadIdentity(dir.path), id);
  const { mode } = await Deno.stat(`${dir.path}/identity.key`);
  assert.equal((mode ?? 0) & 0o777, 0o600);
});

for (const [what, content] of [["an empty file", ""], ["a text", "not a key"]] as const) {
  Deno.test(`${what} as identity.key is an error with a hint, and is not overwritten`, async () => {
    await using dir = await TempDir.make();
    await Deno.writeTextFile(`${dir.path}/identity.key`, content);
    await assert.rejects(loadIdentity(dir.path), (thrown) => {
      assert.ok(thrown instanceof AppError);
      assert.match(thrown.message, /identity\.key": found no key/);
      assert.match(thrown.hint ?? "", /takes a new identity/);
      return true;
    });
    assert.equal(await Deno.readTextFile(`${dir.path}/identity.key`), content);
  });
}

Deno.test("a directory that is not there is an error with a hint", async () => {
  await using dir = await TempDir.make();
  await assert.rejects(
    loadIdentity(`${dir.path}/missing`),
    (thrown) =>
      thrown instanceof AppError && /Cannot write the node's identity/.test(thrown.message),
  );
});

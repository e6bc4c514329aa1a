import assert from "node:assert/strict";
import { SetupError } from "../../ffi/errors.ts";
import { chooseVariant, requirements, WHEELS } from "../../ffi/wheels.ts";

Deno.test("chooseVariant() takes the CPU on Linux, Metal on macOS, or what is wanted", () => {
  const choose = (os: string, arch: string, wanted?: string) => chooseVariant({ os, arch, wanted });
  assert.equal(choose("linux", "x86_64"), "cpu");
  assert.equal(choose("linux", "aarch64", ""), "cpu");
  assert.equal(choose("linux", "x86_64", "cuda-13"), "cuda-13");
  assert.equal(choose("darwin", "aarch64"), "metal");
});

Deno.test("chooseVariant() refuses what is not built, and lists what is", () => {
  const refuse = (os: string, arch: string, wanted: string | undefined, message: RegExp) =>
    assert.throws(() => chooseVariant({ os, arch, wanted }), (error) => {
      assert.ok(error instanceof SetupError && error.hint.length > 0);
      assert.match(error.message, message);
      return true;
    });
  refuse("windows", "x86_64", undefined, /^Cannot set up MLX on windows x86_64: it is built for/);
  refuse("darwin", "x86_64", undefined, /^Cannot set up MLX on darwin x86_64/);
  refuse("linux", "x86_64", "metal", /MLX build "metal" on linux x86_64: one of cpu, cuda-12,/);
});

Deno.test("every wheel is pinned by version and by whole hashes, no two of them equal", () => {
  const hashes = Object.entries(WHEELS).flatMap(([variant, wheels]) =>
    wheels.flatMap(({ name, sha256 }) => {
      assert.ok(sha256.length >= 2, name);
      return sha256.map((hash) => `${name === "scipy-openblas32" ? "" : variant}${hash}`);
    })
  );
  const openblas = (hash: string) => /^[0-9a-f]{64}$/.test(hash);
  const rest = hashes.filter((hash) => !openblas(hash));
  assert.equal(new Set(rest).size, rest.length);
  for (const hash of hashes) assert.match(hash, /^(cpu|metal|cuda-1[23])?[0-9a-f]{64}$/);
});

Deno.test("requirements() is a file for pip with every allowed hash", () => {
  const wheel = { name: "a", version: "1", sha256: ["01", "02"] };
  assert.equal(requirements([wheel]), "a==1 --hash=sha256:01 --hash=sha256:02\n");
});

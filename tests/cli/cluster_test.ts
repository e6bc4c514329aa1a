import { deepEqual, equal, match, notEqual, rejects } from "node:assert/strict";
import { join } from "node:path";
import { readClusterSecret } from "../../cli/cluster_secret_file.ts";
import { privateNetworkKey } from "../../net/cluster_secret.ts";
import { TempDir } from "../support/temp_dir.ts";
import { runIn } from "./fake_io.ts";

const NEW = ["cluster", "secret", "new"];

Deno.test("exo cluster secret new prints a secret that nobody had before", async () => {
  const [first, second] = [await runIn({}, NEW), await runIn({}, NEW)];
  deepEqual([first.code, first.stderr], [0, ""]);
  match(first.stdout, /^exo-cluster-secret-1-[\w-]{43}\n$/);
  notEqual(first.stdout, second.stdout);
  const { secret } = JSON.parse((await runIn({}, [...NEW, "--json"])).stdout);
  match(secret, /^exo-cluster-secret-1-/);
});

Deno.test("exo cluster secret new --out writes for the owner alone, and never over a file", async () => {
  await using dir = await TempDir.make();
  const world = { cwd: dir.path };
  const { code, stdout } = await runIn(world, [...NEW, "--out", "secret"]);
  equal(code, 0);
  match(stdout, /^The secret is in secret; copy it .* exo serve --cluster-secret secret\n$/);
  const path = join(dir.path, "secret");
  equal(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o600);
  const text = await Deno.readTextFile(path);
  const again = await runIn(world, [...NEW, "--out", "secret", "--json"]);
  deepEqual([again.code, JSON.parse(again.stderr).error.code], [1, "conflict"]);
  equal(await Deno.readTextFile(path), text, "the file is as it was");
  const { key, warnings } = await readClusterSecret("secret", dir.path);
  deepEqual([key, warnings], [privateNetworkKey(text), []]);
  const json = await runIn(world, [...NEW, "--out", "other", "--json"]);
  deepEqual(JSON.parse(json.stdout), { file: "other" });
  const nowhere = await runIn(world, [...NEW, "--out", "no/folder"]);
  match(nowhere.stderr, /Cannot write a cluster secret to "no\/folder": no such file or directory/);
});

Deno.test("a secret's file that others may read is told of", async () => {
  await using dir = await TempDir.make();
  await Deno.writeTextFile(join(dir.path, "secret"), "s".repeat(40));
  for (const [mode, count] of [[0o644, 1], [0o620, 1], [0o400, 0]] as const) {
    await Deno.chmod(join(dir.path, "secret"), mode);
    const { warnings } = await readClusterSecret("secret", dir.path);
    equal(warnings.length, count, mode.toString(8));
    if (count === 1) match(warnings[0] ?? "", /others than its owner .*: chmod 600 secret$/);
  }
});

Deno.test("a secret's file that is not there, too short or too large is refused", async () => {
  await using dir = await TempDir.make();
  const file = (name: string, text: string) =>
    Deno.writeTextFile(join(dir.path, name), text, { mode: 0o600 });
  await file("short", "secret\n");
  await file("large", "s".repeat(65_537));
  const cases: Readonly<Record<string, RegExp>> = {
    nothing: /Cannot read the cluster secret "nothing": there is no such file, one that exo can/,
    short: /found 6 characters, at least 32 needed/,
    large: /found 65537 bytes, 65536 at most possible/,
    ".": /Cannot read the cluster secret "\.": it is a folder, a file needed/,
  };
  for (const [name, message] of Object.entries(cases)) {
    await rejects(readClusterSecret(name, dir.path), { code: "usage", message });
  }
});

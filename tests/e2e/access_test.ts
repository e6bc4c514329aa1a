import { deepEqual, equal, match, notDeepEqual } from "node:assert/strict";
import { join } from "node:path";
import { ApiClient } from "../../api/client.ts";
import { writeClusterSecret } from "../../cli/cluster_secret_file.ts";
import { apart } from "../support/apart.ts";
import { eventually } from "../support/eventually.ts";
import { exo, ServeProcess } from "../support/exo_process.ts";
import { TempDir } from "../support/temp_dir.ts";

const FAKE = { EXO_ENGINE: "fake" };

/** An address of this machine by which others could ask, too. */
const OUTER = Deno.networkInterfaces()
  .find(({ family, address }) => family === "IPv4" && !address.startsWith("127."))?.address;

Deno.test("an API beyond this machine is not served without a key", async () => {
  await using dir = await TempDir.make();
  const serve = ["serve", "--port", "0", "--data-dir", dir.path, "--no-worker", "-q"];
  for (const host of ["0.0.0.0", "::", ...(OUTER === undefined ? [] : [OUTER])]) {
    const { code, stdout, stderr } = await exo(...serve, "--host", host);
    deepEqual([code, stdout], [2, ""]);
    match(stderr, /found no API key, one needed so that not anybody can use it/);
  }
});

Deno.test("an API beyond this machine answers nobody without its key", async () => {
  await using dir = await TempDir.make();
  const dataDir = join(dir.path, "data");
  const flags = ["-q", "--no-worker", "--host", "0.0.0.0", "--api-key", "right"];
  await using serve = await ServeProcess.start(dataDir, FAKE, flags);
  const { port } = new URL(serve.url);
  const ask = async (path: string, key?: string, method = "GET") => {
    const headers: Record<string, string> = key === undefined ? {} : { "x-api-key": key };
    const url = `http://${OUTER ?? "127.0.0.1"}:${port}${path}`;
    const response = await fetch(url, { method, headers });
    await response.body?.cancel();
    return response.status;
  };
  for (const path of ["/state", "/events", "/v1/models", "/metrics", "/"]) {
    deepEqual([await ask(path), await ask(path, "wrong")], [401, 401], path);
  }
  deepEqual([await ask("/place_instance", undefined, "POST"), await ask("/state", "right")], [
    401,
    200,
  ]);
  equal(await ask("/healthz"), 200);
  for (const name of [".", "identity.key", "api-key", "exo_log"]) {
    const { mode } = await Deno.stat(join(dataDir, name));
    equal((mode ?? 0o777) & 0o077, 0, `${name} is its owner's alone`);
  }
});

Deno.test("nodes of a namespace and a secret are one cluster, and others are not there", async () => {
  await using dir = await TempDir.make();
  const secret = join(dir.path, "secret");
  await writeClusterSecret(secret, "/");
  const env = { ...FAKE, ...apart() };
  const start = (name: string, env: Record<string, string>, ...flags: string[]) =>
    ServeProcess.start(join(dir.path, name), env, ["-q", "--no-worker", ...flags]);
  await using first = await start("first", env, "--cluster-secret", secret);
  const [address = ""] = first.addresses.filter((address) => address.includes("/127.0.0.1/"));
  const port = address.split("/")[4];
  const bootstrap = ["--bootstrap", `localhost:${port}`];
  // They are told where it is, and have all but one thing that it takes.
  await using keyless = await start("keyless", env, ...bootstrap);
  const elsewhere = { ...env, ...apart() };
  await using foreign = await start("foreign", elsewhere, "--cluster-secret", secret, ...bootstrap);
  await using second = await start("second", env, "--cluster-secret", secret, ...bootstrap);
  const nodesOf = async ({ url }: ServeProcess) =>
    Object.keys((await new ApiClient({ url }).state()).nodeIdentities).sort();
  const both = [first.nodeId, second.nodeId].sort();
  await eventually(
    "both know each other",
    async () =>
      [await nodesOf(first), await nodesOf(second)].every((nodes) => nodes.join() === both.join()),
  );
  notDeepEqual(keyless.nodeId, foreign.nodeId);
  deepEqual(await nodesOf(keyless), [keyless.nodeId]);
  deepEqual(await nodesOf(foreign), [foreign.nodeId]);
});

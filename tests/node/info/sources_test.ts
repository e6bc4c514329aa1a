import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { SYSTEM_SOURCES } from "../../../node/info/sources.ts";
import { TempDir } from "../../support/temp_dir.ts";

Deno.test("files, folders and links that are not there are no errors", async () => {
  await using dir = await TempDir.make();
  await Deno.writeTextFile(`${dir.path}/b`, "text");
  await Deno.symlink("b", `${dir.path}/a`);
  equal(await SYSTEM_SOURCES.readText(`${dir.path}/b`), "text");
  equal(await SYSTEM_SOURCES.readText(`${dir.path}/none`), undefined);
  deepEqual(await SYSTEM_SOURCES.list(dir.path), ["a", "b"]);
  deepEqual(await SYSTEM_SOURCES.list(`${dir.path}/none`), []);
  equal(await SYSTEM_SOURCES.linkTarget(`${dir.path}/a`), "b");
  equal(await SYSTEM_SOURCES.linkTarget(`${dir.path}/b`), undefined);
});

Deno.test("this machine has cores, addresses, a name, and a disk under each folder", async () => {
  await using dir = await TempDir.make();
  const { totalBytes, availableBytes } = await SYSTEM_SOURCES.disk(dir.path);
  ok(totalBytes > 0 && availableBytes >= 0 && availableBytes <= totalBytes);
  await rejects(SYSTEM_SOURCES.disk(`${dir.path}/none`));
  const cores = SYSTEM_SOURCES.coreTimes();
  ok(cores.length > 0 && cores.every(({ busy, total }) => busy >= 0 && busy <= total));
  ok(SYSTEM_SOURCES.networkInterfaces().some(({ address }) => address === "127.0.0.1"));
  ok(SYSTEM_SOURCES.hostname() !== "" && SYSTEM_SOURCES.osRelease() !== "");
  equal(SYSTEM_SOURCES.env("EXO_NO_SUCH_VARIABLE"), undefined);
  ok(SYSTEM_SOURCES.uptime() >= 0);
});

Deno.test("a wait is over when its time is, or when it is told so", async () => {
  const stop = new AbortController();
  await SYSTEM_SOURCES.wait(0, stop.signal);
  const long = SYSTEM_SOURCES.wait(600_000, stop.signal);
  stop.abort();
  await long;
  await SYSTEM_SOURCES.wait(600_000, stop.signal);
});

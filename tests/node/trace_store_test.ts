import { deepEqual, equal } from "node:assert/strict";
import { TaskId } from "../../core/ids.ts";
import { Span } from "../../core/trace.ts";
import { TraceStore } from "../../node/trace_store.ts";
import { TempDir } from "../support/temp_dir.ts";

const id = (text: string) => TaskId.parse(text);
const span = (startUs: number, rank = 0): Span =>
  Span.parse({ name: "queue", category: "queue", startUs, durationUs: 5, rank });

Deno.test("a trace that is saved is listed, read and removed", async () => {
  await using dir = await TempDir.make();
  const store = new TraceStore(`${dir.path}/traces`);
  deepEqual([await store.list(), await store.read(id("t"))], [[], undefined]);
  store.save(id("t"), [span(7), span(9)]);
  await store.flush();
  const [entry, ...others] = await store.list();
  deepEqual([entry?.taskId, others], ["t", []]);
  const file = `${dir.path}/traces/trace_t.json`;
  equal(entry?.bytes, (await Deno.stat(file)).size);
  equal(entry?.createdAt, (await Deno.stat(file)).mtime?.getTime());
  deepEqual(await store.read(id("t")), [span(7), span(9)]);
  deepEqual([await store.remove(id("t")), await store.remove(id("t"))], [true, false]);
  deepEqual(await store.list(), []);
});

Deno.test("the ranks of a task share its trace", async () => {
  await using dir = await TempDir.make();
  const store = new TraceStore(dir.path);
  store.save(id("t"), [span(7, 1)]);
  store.save(id("t"), [span(3, 0)]);
  await store.flush();
  deepEqual(await store.read(id("t")), [span(3, 0), span(7, 1)]);
});

Deno.test("the newest traces are kept, and files of others are left alone", async () => {
  await using dir = await TempDir.make();
  await Deno.writeTextFile(`${dir.path}/notes.txt`, "mine");
  const store = new TraceStore(dir.path, { tracesMax: 3 });
  for (const [at, name] of ["a", "b", "c", "d", "e"].entries()) {
    store.save(id(name), [span(at)]);
    await store.flush();
    // Files written in the same millisecond are equally new.
    const path = `${dir.path}/trace_${name}.json`;
    await Deno.utime(path, 1_000 + at, 1_000 + at);
  }
  deepEqual((await store.list()).map(({ taskId }) => taskId), ["e", "d", "c"]);
  equal(await Deno.readTextFile(`${dir.path}/notes.txt`), "mine");
});

Deno.test("an id that leads out of the folder is never a path", async () => {
  await using dir = await TempDir.make();
  const outside = `${dir.path}/trace_x.json`;
  await Deno.writeTextFile(outside, "{}");
  await Deno.mkdir(`${dir.path}/in/trace_`, { recursive: true });
  const store = new TraceStore(`${dir.path}/in`);
  const escape = id("/../../trace_x");
  equal(await store.read(escape), undefined);
  equal(await store.remove(escape), false);
  store.save(escape, [span(1)]);
  await store.flush();
  equal(await Deno.readTextFile(outside), "{}");
});

Deno.test("traces beyond those that may wait are lost, and a folder that fails loses only its own", async () => {
  await using dir = await TempDir.make();
  const store = new TraceStore(`${dir.path}/folder`, { unwrittenMax: 2 });
  for (const name of ["a", "b", "c"]) store.save(id(name), [span(1)]);
  await store.flush();
  deepEqual((await store.list()).map(({ taskId }) => taskId).sort(), ["a", "b"]);
  store.save(id("d"), [span(1)]);
  await store.flush();
  equal((await store.list()).length, 3);
  const blocked = new TraceStore(`${dir.path}/folder/trace_a.json`);
  blocked.save(id("e"), [span(1)]);
  await blocked.flush();
  equal((await store.list()).length, 3);
});

/** Disks that are full or read-only: run under `unshare --mount`, prints what is said as JSON. */
import { equal } from "node:assert/strict";
import { join } from "node:path";
import { createApp } from "../../api/server.ts";
import { loadIdentity } from "../../node/identity.ts";
import { addTinyModel, startTestNode } from "../support/test_node.ts";
import { startedOn } from "./data_dirs.ts";
import type { Told } from "./told.ts";
import { toldBy } from "./world.ts";

const [root = ""] = Deno.args;

/** Mounts a small disk of memory at a new folder. */
async function disk(name: string, options: string): Promise<string> {
  const path = join(root, name);
  await Deno.mkdir(path);
  await mount("-t", "tmpfs", "-o", options, "tmpfs", path);
  return path;
}

async function mount(...args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("mount", { args: [...args] }).output();
  equal(success, true, new TextDecoder().decode(stderr));
}

/** Leaves no room on a disk; the returned function gives it back. */
function fill(path: string): () => void {
  const filler = join(path, "filler");
  try {
    for (;;) Deno.writeFileSync(filler, new Uint8Array(4_096), { append: true });
  } catch {
    return () => Deno.removeSync(filler);
  }
}

/** A node whose disk becomes full while it runs, and has room again. */
async function fullWhileRunning(): Promise<Told[]> {
  const path = await disk("running", "size=2m");
  const node = await startTestNode(join(path, "data"));
  const app = createApp(node);
  await addTinyModel(node, join(root, "tiny"));
  const place = () =>
    app.request("/place_instance", { method: "POST", body: '{"model_id":"tiny"}' });
  const empty = fill(path);
  const refused = await place();
  const case_ = { name: "a disk that is full", by: 'POST /place_instance {"model_id":"tiny"}' };
  const told = toldBy(case_, refused.status, await refused.text());
  equal((await app.request("/readyz")).status, 200, "the node goes on");
  empty();
  const placed = await place();
  equal(placed.status, 200, await placed.text());
  await node.stop();
  return [told];
}

const readOnly = await disk("read-only", "ro,size=1m");
const full = await disk("full", "size=64k");
fill(full);
const tight = await disk("tight", "size=64k");
await loadIdentity(tight);
fill(tight);
const locked = join(root, "locked");
await (await startTestNode(locked)).stop();
await mount("--bind", locked, locked);
await mount("-o", "remount,ro,bind", locked);

const told = [
  await startedOn("a read-only disk", join(readOnly, "data")),
  await startedOn("a data directory that is read-only", readOnly),
  await startedOn("a read-only disk with a node's data", locked),
  await startedOn("a disk without room for an identity", full),
  await startedOn("a disk without room for a log", tight),
  ...await fullWhileRunning(),
];
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(told)));
Deno.exit(0);

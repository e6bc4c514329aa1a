/** Folders that processes which were killed have left. */
import assert from "node:assert/strict";
import { basename } from "node:path";
import { makeProcessFolder, sweepFolders } from "../../node/process_folders.ts";
import { TempDir } from "../support/temp_dir.ts";

Deno.test("folders of processes that are gone are removed, and no others", async () => {
  await using dir = await TempDir.make();
  const own = makeProcessFolder("prefill", dir.path);
  const [, namespace, started] = /^exo-prefill-(\d+)\.\d+\.(\d+)-/.exec(basename(own)) ??
    assert.fail(own);
  const child = new Deno.Command(Deno.execPath(), { args: ["--version"], stdout: "null" }).spawn();
  await child.status;
  const gone = [
    `exo-prefill-${namespace}.${child.pid}.1-aaaaaa`,
    // Its id was given out again; who cannot tell when a process began leaves it.
    ...(started === "0" ? [] : [`exo-prefill-${namespace}.${Deno.pid}.1-bbbbbb`]),
  ];
  const kept = [
    basename(own),
    `exo-prefill-${namespace}1.${child.pid}.1-cccccc`, // Of another container.
    `exo-jaccl-${namespace}.${child.pid}.1-dddddd`,
    "exo-prefill-by-hand",
  ];
  for (const name of [...gone, ...kept]) Deno.mkdirSync(`${dir.path}/${name}`, { recursive: true });
  Deno.writeTextFileSync(`${dir.path}/${gone[0]}/ring`, "bytes");
  sweepFolders("prefill", dir.path);
  const left = [...Deno.readDirSync(dir.path)].map(({ name }) => name);
  assert.deepEqual(left.toSorted(), kept.toSorted());
  sweepFolders("prefill", `${dir.path}/nowhere`);
});

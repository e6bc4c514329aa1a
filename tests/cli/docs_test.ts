import { deepEqual, equal, match } from "node:assert/strict";
import { renderCliDocs } from "../../cli/docs.ts";
import { renderJsonDocs } from "../../cli/json_docs.ts";
import { COMMANDS } from "../../cli/mod.ts";

const docs = (name: string) => Deno.readTextFile(new URL(`../../docs/${name}`, import.meta.url));

Deno.test("renderCliDocs() gives each command its arguments and examples", async () => {
  const rows = COMMANDS.filter(({ name }) => name === "instance");
  const page = await renderCliDocs(rows);
  match(page, /## exo instance create\n\nPlace a model on the cluster as an instance\. /);
  match(page, /```\nexo instance create <MODEL> \[FLAGS\]\n```/);
  match(page, /\| `--sharding <pipeline\\\|tensor>` \| .*\(default: pipeline\) \|/);
  match(page, /exo instance delete ID/);
});

Deno.test("renderJsonDocs() gives each field of a result its type and meaning", async () => {
  const page = await renderJsonDocs();
  match(page, /## exo instance list\n\nAn array\.\n\n.*\n.*\n\| `\[\]\.instanceId` \| string \|/);
  match(page, /\| `\[\]\.layersLoaded` \| integer, may be absent \| Layers in memory/);
  match(page, /\| `usage` \| object or null \|.*\n\| `usage\.promptTokens` \| integer \|/);
  match(page, /\| `tokensPerSecond` \| number or null \|/);
  match(page, /\| `runs\[\]\.interTokenMs\.p99` \| number \|/);
  match(page, /\| `node_unreachable` \| 3 \| yes \|/);
  const empty = page.split("\n").filter((line) => /\|\s*\|\s*$/.test(line));
  deepEqual(empty, [], "every field says what it means");
});

Deno.test("docs/ says what the commands say; deno task docs rewrites it", async () => {
  equal(await docs("cli.md"), await renderCliDocs());
  equal(await docs("json.md"), await renderJsonDocs());
});

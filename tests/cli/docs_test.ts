import { equal, match } from "node:assert/strict";
import { renderCliDocs } from "../../cli/docs.ts";
import { COMMANDS } from "../../cli/mod.ts";

const PAGE = new URL("../../docs/cli.md", import.meta.url);

Deno.test("renderCliDocs() gives each command its arguments and examples", async () => {
  const rows = COMMANDS.filter(({ name }) => name === "instance");
  const page = await renderCliDocs(rows);
  match(page, /## exo instance create\n\nPlace a model on the cluster as an instance\. /);
  match(page, /```\nexo instance create <MODEL> \[FLAGS\]\n```/);
  match(page, /\| `--sharding <pipeline\\\|tensor>` \| .*\(default: pipeline\) \|/);
  match(page, /exo instance delete ID/);
});

Deno.test("docs/cli.md says what the commands say; deno task docs rewrites it", async () => {
  equal(await Deno.readTextFile(PAGE), await renderCliDocs());
});

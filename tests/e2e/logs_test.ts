import assert from "node:assert/strict";
import { ApiClient } from "../../api/client.ts";
import { eventually } from "../support/eventually.ts";
import { ServeProcess } from "../support/exo_process.ts";
import { TempDir } from "../support/temp_dir.ts";

const TINY = new URL("../golden/models/tiny-tied", import.meta.url).pathname;

Deno.test("the log of a node is also in a file of its data directory, without any prompt", async () => {
  await using dir = await TempDir.make();
  const serve = await ServeProcess.start(dir.path, {}, ["-v", "--log-format", "json"]);
  const client = new ApiClient({ url: serve.url, apiKey: undefined });
  const { id: model } = await client.addModel(TINY);
  const { instanceId } = await client.placeInstance({ model });
  for await (const _ of client.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
  const messages = [{ role: "user" as const, content: "xyzzy" }];
  for await (const _ of client.chat({ model, messages, maxTokens: 2 }));
  serve.kill("SIGTERM");
  await serve.ended();
  const file = `${dir.path}/exo_log/exo.log`;
  await eventually("the file is whole", async () => (await Deno.readTextFile(file)).endsWith("\n"));
  const lines = (await Deno.readTextFile(file)).trim().split("\n");
  const messagesLogged = lines.map((line) => String(JSON.parse(line).message));
  assert.ok(messagesLogged.some((one) => one.includes("is up")), "it started");
  assert.ok(messagesLogged.some((one) => one.includes("/v1/chat/completions")), "it was asked");
  assert.ok(!lines.some((line) => line.includes("xyzzy")), "prompts are not logged");
});

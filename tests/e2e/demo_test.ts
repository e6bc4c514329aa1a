import assert from "node:assert/strict";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { directories } from "../../core/directories.ts";
import { apart } from "../support/apart.ts";
import { TempDir } from "../support/temp_dir.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;

/** A home of its own that shares what was fetched and compiled with the real one. */
async function makeHome(path: string): Promise<void> {
  const env = Deno.env.toObject();
  const { cache } = directories({ env, os: Deno.build.os, home: env["HOME"] ?? "/" });
  for (const name of ["native", "models"]) {
    await Deno.mkdir(join(cache, name), { recursive: true });
    await Deno.symlink(join(cache, name), join(path, name));
  }
}

Deno.test({
  name: "the demo answers with Paris, stays up without a terminal, and ends at SIGINT",
  ignore: !Deno.env.has("EXO_TEST_SMOLLM2_GGUF"),
  async fn() {
    await using home = await TempDir.make();
    await makeHome(home.path);
    const demo = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", MAIN, "demo"],
      env: { ...Deno.env.toObject(), ...apart(), EXO_HOME: home.path },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const answer = new Response(demo.stdout).text();
    let said = "";
    for await (const line of createInterface({ input: Readable.fromWeb(demo.stderr) })) {
      said += `${line}\n`;
      // The last line of the hints: from here on the demo only waits.
      if (line.startsWith("Any OpenAI client")) demo.kill("SIGINT");
    }
    const { code } = await demo.status;
    assert.equal(code, 0, said);
    assert.match(await answer, /Paris/);
    assert.match(said, /First token after \d+ ms, then [\d.]+ tokens per second/);
  },
});

/**
 * Runs the tests: makes sure that the shim and the default model are there, then `deno test`.
 * Arguments go to `deno test`: a folder, a file, `--filter`. Ends with `N passed, N failed`.
 */
import { fetchDefaultModel } from "../cli/default_model.ts";
import { directories } from "../core/directories.ts";
import { ensureSetup } from "../ffi/setup.ts";

const say = (line: string) => Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));

async function prepare(): Promise<Record<string, string>> {
  await ensureSetup({ onProgress: say });
  const env = Deno.env.toObject();
  const home = env["HOME"] ?? "/";
  const { cache } = directories({ env, os: Deno.build.os, home });
  return { EXO_TEST_SMOLLM2_GGUF: await fetchDefaultModel(cache, say) };
}

/** Passes the output on and keeps its last line that sums up. */
async function runTests(env: Record<string, string>): Promise<{ code: number; summary: string }> {
  const given = Deno.args.length > 0 ? Deno.args : ["tests"];
  const root = new URL("..", import.meta.url);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", ...given],
    cwd: root,
    env,
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let tail = "";
  const decoder = new TextDecoder();
  for await (const bytes of child.stdout) {
    Deno.stdout.writeSync(bytes);
    tail = (tail + decoder.decode(bytes, { stream: true })).slice(-4_000);
  }
  const { code } = await child.status;
  // deno-lint-ignore no-control-regex
  const plain = tail.replace(/\x1b\[[0-9;]*m/g, "");
  const found = [...plain.matchAll(/(\d+) passed.*?\| (\d+) failed/g)].at(-1);
  const failedToRun = code === 0 ? "0" : "1";
  return { code, summary: `${found?.[1] ?? 0} passed, ${found?.[2] ?? failedToRun} failed` };
}

const { code, summary } = await runTests(await prepare());
Deno.stdout.writeSync(new TextEncoder().encode(`${summary}\n`));
Deno.exit(code);

/**
 * Runs the tests: makes sure that the shim and the default model are there, then `deno test`.
 * Arguments go to `deno test`: a folder, a file, `--filter`. Ends with `N passed, N failed`.
 */
import { fetchDefaultModel } from "../cli/default_model.ts";
import { directories } from "../core/directories.ts";
import { ensureSetup } from "../ffi/setup.ts";
import { CORE_COVERAGE, coverageFlags } from "./support/coverage.ts";

const say = (line: string) => Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));

async function prepare(): Promise<Record<string, string>> {
  await ensureSetup({ onProgress: say });
  const env = Deno.env.toObject();
  const home = env["HOME"] ?? "/";
  const { cache } = directories({ env, os: Deno.build.os, home });
  return { EXO_TEST_SMOLLM2_GGUF: await fetchDefaultModel(cache, say) };
}

interface Result {
  readonly code: number;
  readonly passed: number;
  readonly failed: number;
  /** What `deno test` says at its end of those that failed. */
  readonly errors: string;
}

/** How much of the end of the output is kept, in characters. */
const TAIL_LENGTH = 40_000;

type Write = (bytes: Uint8Array) => void;

const toStdout: Write = (bytes) => void Deno.stdout.writeSync(bytes);
const write = (text: string) => toStdout(new TextEncoder().encode(text));

/** Passes the output on and keeps what its last line sums up. */
async function runTests(
  args: readonly string[],
  env: Record<string, string>,
  onOutput = toStdout,
): Promise<Result> {
  const root = new URL("..", import.meta.url);
  const child = new Deno.Command(Deno.execPath(), {
    // Types are looked at by `deno task check`, once.
    args: ["test", "-A", "--no-check", ...args],
    cwd: root,
    env,
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let tail = "";
  const decoder = new TextDecoder();
  for await (const bytes of child.stdout) {
    onOutput(bytes);
    tail = (tail + decoder.decode(bytes, { stream: true })).slice(-TAIL_LENGTH);
  }
  const { code } = await child.status;
  // deno-lint-ignore no-control-regex
  const plain = tail.replace(/\x1b\[[0-9;]*m/g, "");
  const found = [...plain.matchAll(/(\d+) passed.*?\| (\d+) failed/g)].at(-1);
  const failedToRun = code === 0 ? 0 : 1;
  const [passed, failed] = [Number(found?.[1] ?? 0), Number(found?.[2] ?? failedToRun)];
  const errors = code === 0 ? "" : plain.slice(plain.lastIndexOf("\n ERRORS ") + 1);
  return { code, passed, failed, errors };
}

/** What computes: the engines, and compilers for the kernels. */
const COMPUTING = ["tests/engines", "tests/ffi"];

/**
 * All tests: those of core/ first, whose coverage one of the others looks at. Those that compute run
 * beside all others, which mostly wait; what they say comes when they are over.
 */
async function runAll(env: Record<string, string>): Promise<Result[]> {
  const folder = await Deno.makeTempDir({ prefix: "exo-coverage-" });
  const said: Uint8Array[] = [];
  const computing = runTests(COMPUTING, env, (bytes) => void said.push(bytes));
  try {
    const core = await runTests([...coverageFlags(folder), "tests/core"], env);
    const ignored = ["tests/core", ...COMPUTING].join(",");
    const others = [`--ignore=${ignored}`, "tests"];
    return [core, await runTests(others, { ...env, [CORE_COVERAGE]: folder }), await computing];
  } finally {
    await computing;
    for (const bytes of said) toStdout(bytes);
    await Deno.remove(folder, { recursive: true });
  }
}

const env = await prepare();
const results = Deno.args.length > 0 ? [await runTests(Deno.args, env)] : await runAll(env);
const sum = (count: (result: Result) => number) =>
  results.reduce((total, result) => total + count(result), 0);
// Once more where much has come after them: whoever reads the end alone sees what failed.
if (results.length > 1) write(results.map(({ errors }) => errors).join(""));
const summary = `${sum(({ passed }) => passed)} passed, ${sum(({ failed }) => failed)} failed`;
write(`${summary}\n`);
Deno.exit(results.find(({ code }) => code !== 0)?.code ?? 0);

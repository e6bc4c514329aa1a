import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { run } from "../../ffi/command.ts";
import { kernelFlags } from "../../ffi/kernels/flags.ts";
import { findLibrary } from "../../ffi/library.ts";

const KERNELS = new URL("../../ffi/kernels/", import.meta.url).pathname;
const GOLDEN = new URL("../golden/kernels/", import.meta.url).pathname;

interface Program {
  readonly name: string;
  readonly args: readonly string[];
  /** Whether it uses threads: the others have nothing to show ThreadSanitizer. */
  readonly threads?: boolean;
}

/** Test programs in ffi/kernels/tests; each runs on every instruction set of this machine. */
const PROGRAMS: readonly Program[] = [
  { name: "pool_test", args: [], threads: true },
  { name: "linear_test", args: [], threads: true },
  { name: "linear_dense_test", args: [] },
  { name: "linear_golden_test", args: [join(GOLDEN, "linear.bin")] },
  { name: "rows_test", args: [] },
  { name: "rows_activation_test", args: [] },
  { name: "sample_test", args: [] },
  { name: "rows_golden_test", args: [join(GOLDEN, "rows.bin")] },
  { name: "attention_test", args: [], threads: true },
  { name: "kv_quantized_test", args: [], threads: true },
  { name: "group_test", args: [], threads: true },
  { name: "linear_gguf_test", args: [join(GOLDEN, "linear_gguf.bin")] },
];

interface Build {
  readonly name: string;
  readonly flags: readonly string[];
  /** The kernels are those of the shim's library: the flags are for the programs alone. */
  readonly isShipped?: boolean;
  readonly args: readonly string[];
  readonly programs: readonly Program[];
}

const BUILDS: readonly Build[] = [
  { name: "as shipped", flags: ["-O1"], isShipped: true, args: [], programs: PROGRAMS },
  {
    name: "AddressSanitizer and UndefinedBehaviorSanitizer",
    flags: ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    args: ["short"],
    programs: PROGRAMS,
  },
  {
    name: "ThreadSanitizer",
    flags: ["-O0", "-fsanitize=thread"],
    args: ["short"],
    programs: PROGRAMS.filter(({ threads }) => threads),
  },
];

const [compiler = "c++", ...first] = (Deno.env.get("CXX") ?? "").split(" ").filter((word) => word);
const version = await run(compiler, [...first, "--version"]);
// The sanitizers are looked for on Linux only: what they find does not depend on the system.
const sanitizes = Deno.build.os === "linux";

async function compile(args: readonly string[], folder: string): Promise<void> {
  const outcome = await run(compiler, [...first, ...args], folder);
  assert.ok(outcome?.ok, `${args.join(" ")}\n${outcome?.stderr}`);
}

/** Does the work for each item, as many at a time as there are cores. */
async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: navigator.hardwareConcurrency }, worker));
}

async function buildAndRun(build: Build, folder: string): Promise<string[]> {
  const kernels = build.isShipped ? [] : kernelSources();
  const sources = [...kernels, ...build.programs.map(({ name }) => `tests/${name}.cpp`)];
  const object = (source: string) => join(folder, source.replace("/", "_") + ".o");
  await eachOf(sources, (source) => {
    const flags = [...kernelFlags(source), ...build.flags, "-Wall", "-Wextra", "-Werror"];
    return compile([...flags, "-c", join(KERNELS, source), "-o", object(source)], folder);
  });
  const library = findLibrary();
  const shipped = build.isShipped ? [library, `-Wl,-rpath,${dirname(library)}`] : [];
  const lines: string[] = [];
  await eachOf(build.programs, async ({ name, args }) => {
    const program = join(folder, name);
    const objects = [`tests/${name}.cpp`, ...kernels].map(object);
    await compile([...build.flags, "-pthread", ...objects, ...shipped, "-o", program], folder);
    const outcome = await run(program, [...args, ...build.args], folder);
    assert.ok(outcome?.ok, `${name}\n${outcome?.stdout}\n${outcome?.stderr}`);
    lines.push(outcome.stdout);
  });
  return lines;
}

function kernelSources(): string[] {
  const kernels = [...Deno.readDirSync(KERNELS)].map(({ name }) => name)
    .filter((name) => name.endsWith(".cpp"));
  // The slowest to compile first, so that they do not come last and alone.
  return kernels.sort((a, b) =>
    kernelFlags(b).length - kernelFlags(a).length || a.localeCompare(b)
  );
}

for (const build of BUILDS) {
  Deno.test({
    name: `the CPU kernels pass their own tests: ${build.name}`,
    ignore: !version?.ok || (!build.isShipped && !sanitizes), // Needs a compiler.
    async fn() {
      const folder = await Deno.makeTempDir({ prefix: "exo-kernels-" });
      try {
        const lines = await buildAndRun(build, folder);
        assert.equal(lines.length, build.programs.length);
        for (const line of lines) assert.match(line, /^[1-9]\d* passed, 0 failed$/);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

Deno.test("every test program of the kernels is run", () => {
  const found = [...Deno.readDirSync(join(KERNELS, "tests"))].map(({ name }) => name)
    .filter((name) => name.endsWith("_test.cpp")).map((name) => name.replace(".cpp", ""));
  assert.deepEqual(PROGRAMS.map(({ name }) => name).sort(), found.sort());
});

Deno.test("each instruction set's files get its flags, and only on its processors", () => {
  assert.ok(kernelFlags("linear_avx2.cpp", "x86_64").includes("-mavx2"));
  assert.ok(!kernelFlags("linear_avx2.cpp", "x86_64").includes("-mavx512f"));
  assert.ok(kernelFlags("rows_avx512.cpp", "x86_64").includes("-mavx512vnni"));
  assert.ok(kernelFlags("linear_amx.cpp", "x86_64").includes("-mavx512vbmi"));
  assert.ok(!kernelFlags("linear_avx512.cpp", "x86_64").includes("-mavx512vbmi"));
  assert.ok(!kernelFlags("linear_avx2.cpp", "aarch64").some((flag) => flag.startsWith("-m")));
  assert.ok(!kernelFlags("linear_scalar.cpp", "x86_64").some((flag) => flag.startsWith("-m")));
  assert.ok(kernelFlags("pool.cpp").includes("-ffp-contract=off"));
});

/** Compiles the shim against the unpacked wheels. */
import { join } from "node:path";
import { installCommand, lastLines, run } from "./command.ts";
import { SetupError } from "./errors.ts";
import { HEADERS, kernelFiles, type Layout, SOURCES, sourceText } from "./layout.ts";

/** What of C++20 the headers of MLX use; a compiler that takes this takes them. */
const PROBE_SOURCE = `#include <compare>
#include <concepts>
#include <string>
struct Probe { int x; bool operator==(const Probe&) const = default; };
bool probe(std::string s) { return s.ends_with('.') && Probe{1} == Probe{1}; }
`;

/** Files that the compiler has in hand at a time, about 300 MB of memory each. */
const JOBS_MAX = 8;

/**
 * Compiles and links the shim into `folder`, which must be a sibling of the wheels' folder.
 * @throws {SetupError} if the compiler is missing, too old or fails.
 */
export async function buildShim({ commands }: Layout, folder: string): Promise<void> {
  const sources = join(folder, ".src");
  Deno.mkdirSync(join(sources, "kernels"), { recursive: true });
  // Copied, since this program may be one file with its sources inside.
  for (const name of [...SOURCES, ...HEADERS, ...kernelFiles()]) {
    Deno.writeTextFileSync(join(sources, name), sourceText(name));
  }
  await checkCompiler(sources);
  await eachOf(commands.objects, (command) => compile(sources, command));
  await compile(sources, commands.link);
  Deno.removeSync(sources, { recursive: true });
}

/** The compiler as a person names it, e.g. `ccache g++`. */
function compiler(): [program: string, ...args: string[]] {
  const [program = "c++", ...args] = (Deno.env.get("CXX") ?? "").split(" ").filter((word) => word);
  return [program, ...args];
}

async function checkCompiler(folder: string): Promise<void> {
  const [program, ...args] = compiler();
  const version = await run(program, [...args, "--version"]);
  const install = `install one with: ${installCommand("c++")}`;
  if (!version?.ok) {
    throw new SetupError(
      `Cannot compile the shim: found no program "${program}", needed is a C++20 compiler`,
      `${install}; or name another in CXX`,
    );
  }
  Deno.writeTextFileSync(join(folder, "probe.cpp"), PROBE_SOURCE);
  const probe = await run(program, [...args, "-std=c++20", "-fsyntax-only", "probe.cpp"], folder);
  if (probe?.ok) return;
  throw new SetupError(
    `Cannot compile the shim: "${version.stdout.split("\n")[0]}" does not know C++20, ` +
      "needed are GCC 11, Clang 13 or Xcode 14 or later",
    `${install}; or name a newer one in CXX`,
  );
}

async function compile(folder: string, args: readonly string[]): Promise<void> {
  const [program, ...first] = compiler();
  const outcome = await run(program, [...first, ...args], folder);
  if (outcome?.ok) return;
  throw new SetupError(
    `Cannot compile the shim: "${program}" failed, one that compiles C++20 needed\n${
      lastLines(outcome?.stderr ?? "", 12)
    }`,
    "name another compiler: CXX=clang++ exo setup; report the lines above if that fails too",
  );
}

/** Does the work for each item, as many at a time as there are cores. */
async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values(); // Shared: each worker takes the next one.
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  const count = Math.min(navigator.hardwareConcurrency, JOBS_MAX);
  await Promise.all(Array.from({ length: count }, worker));
}

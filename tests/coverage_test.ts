import { deepEqual, equal, ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import {
  CORE_COVERAGE,
  coverageFlags,
  describeUncovered,
  uncoveredOf,
} from "./support/coverage.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Files of core/ that its tests do not cover yet. One that they do must leave this list. */
const NOT_YET: readonly string[] = [];

/** The one thing that coverage may leave out: what the compiler proves to be unreachable. */
const UNREACHABLE =
  /\/\/ deno-coverage-ignore-start\n\s*default:\n\s*(return )?\w+ satisfies never;\n\s*\/\/ deno-coverage-ignore-stop\n/g;

async function deno(...args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  }).output();
  const [out, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  ok(success, `deno ${args.join(" ")}\n${out}${errors}`);
  return out ?? "";
}

/** The coverage of tests/core: of the run that `deno task test` began with, or of one of its own. */
async function coverageOfCoreTests(): Promise<string> {
  const known = Deno.env.get(CORE_COVERAGE);
  if (known !== undefined) return await deno("coverage", "--lcov", known);
  const folder = await Deno.makeTempDir();
  try {
    await deno("test", "-A", ...coverageFlags(folder), "tests/core");
    return await deno("coverage", "--lcov", folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function filesOfCore(): string[] {
  return [...Deno.readDirSync(`${ROOT}core`)].map(({ name }) => `core/${name}`)
    .filter((path) => path.endsWith(".ts")).sort();
}

/** What the file lacks, in words. One that was never loaded is to have nothing but types. */
async function shortcomingOf(path: string, lcov: string): Promise<string> {
  const uncovered = uncoveredOf(lcov).get(ROOT + path);
  if (uncovered) return describeUncovered(uncovered);
  const values = Object.keys(await import(`../${path}`));
  return values.length === 0 ? "" : "no test of core loads it";
}

Deno.test("core's own tests cover all its branches, functions and lines", async () => {
  const lcov = await coverageOfCoreTests();
  const short: string[] = [];
  const full = new Set<string>();
  for (const path of filesOfCore()) {
    const shortcoming = await shortcomingOf(path, lcov);
    if (shortcoming === "") full.add(path);
    else if (!NOT_YET.includes(path)) short.push(`${path}: ${shortcoming}`);
  }
  const advice = "a test in tests/core must get there; docs/hacking.md has a section on coverage";
  ok(short.length === 0, [advice, ...short].join("\n"));
  const rotten = NOT_YET.filter((path) => full.has(path) || !filesOfCore().includes(path));
  ok(rotten.length === 0, `covered or gone, take out of NOT_YET: ${rotten.join(", ")}`);
});

Deno.test("core leaves nothing out of its coverage but defaults that cannot be reached", () => {
  const wrong = filesOfCore().filter((path) => {
    const text = Deno.readTextFileSync(ROOT + path);
    return text.replace(UNREACHABLE, "").includes("deno-coverage-ignore");
  });
  deepEqual(wrong, []);
});

Deno.test("uncoveredOf() finds what a report counts as never reached", () => {
  const record = (path: string, ...rows: string[]) => [`SF:${path}`, ...rows, "end_of_record", ""];
  const lcov = [
    ...record("/a.ts", "FNDA:1,f", "FNDA:0,g", "BRDA:3,1,0,0", "BRDA:3,1,1,2", "DA:1,1", "DA:4,0"),
    ...record("/b.ts", "FNDA:1,f", "BRDA:3,1,0,5", "BRDA:9,2,0,-", "BRDA:9,2,1,-"),
    ...record("/c.ts", "FNDA:1,f", "BRDA:3,1,0,5", "DA:1,1"),
  ].join("\n");
  const told = [...uncoveredOf(lcov)].map(([path, one]) => [path, describeUncovered(one)]);
  deepEqual(told, [
    ["/a.ts", "branches of line 3; functions g; lines 4"],
    ["/b.ts", "branches of line 9"],
    ["/c.ts", ""],
  ]);
  equal(uncoveredOf("").size, 0);
});

/** What a run of tests left out of one file, by line, and functions by name. */
export interface Uncovered {
  readonly branches: readonly number[];
  readonly functions: readonly string[];
  readonly lines: readonly number[];
}

/** The environment variable by which `tests/run.ts` hands on the coverage of `tests/core`. */
export const CORE_COVERAGE = "EXO_TEST_CORE_COVERAGE";

/** What a run of `deno test` needs so that it leaves its coverage in `folder`. */
export function coverageFlags(folder: string): string[] {
  return [`--coverage=${folder}`, "--coverage-raw-data-only"];
}

/**
 * What each file of a report lacks, by its path. Source: the tracefile format of geninfo(1), lcov
 * 2.0; a branch that was not taken has the count 0, or `-` where its function was never called.
 */
export function uncoveredOf(lcov: string): ReadonlyMap<string, Uncovered> {
  const files = new Map<string, Uncovered>();
  for (const record of lcov.split("end_of_record")) {
    const rows = record.split("\n");
    const fieldsOf = (key: string) =>
      rows.filter((row) => row.startsWith(`${key}:`))
        .map((row) => row.slice(key.length + 1).split(","));
    const path = fieldsOf("SF")[0]?.join(",");
    if (path === undefined) continue;
    const branches = fieldsOf("BRDA").filter((fields) => !(Number(fields[3]) > 0));
    const functions = fieldsOf("FNDA").filter(([count]) => count === "0");
    const lines = fieldsOf("DA").filter(([, count]) => count === "0");
    files.set(path, {
      branches: [...new Set(branches.map(([line]) => Number(line)))],
      functions: functions.map(([, name]) => String(name)),
      lines: lines.map(([line]) => Number(line)),
    });
  }
  return files;
}

/** What a file lacks, in words; empty when nothing. */
export function describeUncovered({ branches, functions, lines }: Uncovered): string {
  return [
    branches.length > 0 ? `branches of line ${branches.join(", ")}` : "",
    functions.length > 0 ? `functions ${functions.join(", ")}` : "",
    lines.length > 0 ? `lines ${lines.join(", ")}` : "",
  ].filter((part) => part !== "").join("; ");
}

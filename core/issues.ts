import type { z } from "zod";

/** Longest piece of a wrong value that a message repeats. */
const FOUND_CHARS_MAX = 60;

/** What is wrong with an input: the field, what it holds, what it should. */
export interface Issue {
  /** Path of the field, as `messages.0.role`; empty for the input itself. */
  readonly param: string;
  readonly found: string;
  readonly needed: string;
  /** A value that the field could hold, as JSON; undefined where none can be told. */
  readonly example?: string | undefined;
  /** Whether it is not there at all. */
  readonly isMissing?: boolean;
  /** Whether it should not be there. */
  readonly isUnknown?: boolean;
}

/** What a length counts, and the types that JSON has another name for. */
const UNITS: Readonly<Record<string, string>> = { string: "character", array: "element" };
const TYPE_NAMES: Readonly<Record<string, string>> = { int: "integer", record: "object" };

type ZodIssue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** The first complaint of a schema about `input`, in words. */
export function firstIssue(error: z.ZodError, input: unknown): Issue {
  const [issue] = error.issues;
  if (!issue) return { param: "", found: show(input), needed: "another value" };
  return describe(issue, [], input);
}

function describe(issue: ZodIssue, base: Path, input: unknown): Issue {
  const path = [...base, ...issue.path];
  if (issue.code === "invalid_union") {
    const branch = bestBranch(issue.errors);
    if (branch) return describe(branch, path, input);
  }
  if (issue.code === "unrecognized_keys") {
    const param = join([...path, ...issue.keys.slice(0, 1)]);
    return { param, found: "an unknown field", needed: "a known one", isUnknown: true };
  }
  const value = at(input, path);
  const found = foundBy(issue, value);
  const isMissing = value === undefined;
  return { param: join(path), found, needed: needed(issue), example: example(issue), isMissing };
}

/** What is too long is told by its length. */
function foundBy(issue: ZodIssue, value: unknown): string {
  const isLong = issue.code === "too_big" && UNITS[issue.origin] !== undefined &&
    (typeof value === "string" || Array.isArray(value));
  return isLong ? counted(value.length, issue.origin) : show(value);
}

/** The branch that got furthest into the input, or that takes its type, is the one that was meant. */
function bestBranch(branches: readonly (readonly ZodIssue[])[]): ZodIssue | undefined {
  const firsts = firstsOf(branches);
  const deepest = Math.max(0, ...firsts.map(({ path }) => path.length));
  if (deepest > 0) return firsts.find(({ path }) => path.length === deepest);
  const ofType = firsts.filter(({ code }) => code !== "invalid_type");
  return ofType.length === 1 ? ofType[0] : undefined;
}

/** What each branch of a union complains about first. */
function firstsOf(branches: readonly (readonly ZodIssue[])[]): ZodIssue[] {
  return branches.flatMap((issues) => issues.slice(0, 1));
}

function needed(issue: ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return withArticle(TYPE_NAMES[issue.expected] ?? issue.expected);
    case "invalid_value":
      return issue.values.length === 1
        ? show(issue.values[0])
        : `one of ${issue.values.map(String).join(", ")}`;
    case "too_small":
      return bound(issue.inclusive ? "at least" : "more than", issue.minimum, issue.origin);
    case "too_big":
      return bound(issue.inclusive ? "at most" : "less than", issue.maximum, issue.origin);
    case "invalid_union":
      return "options" in issue && issue.options
        ? `one of ${issue.options.map(String).join(", ")}`
        : unionNeeds(issue.errors);
    case "invalid_format":
      return issue.format === "regex" ? `the form ${issue.pattern}` : `a valid ${issue.format}`;
    default:
      return issue.message;
  }
}

/** The values of JSON's types that are least likely to ask for anything. */
const EXAMPLES: Readonly<Record<string, unknown>> = {
  string: "text",
  number: 1,
  int: 1,
  boolean: false,
  array: [],
  object: {},
  record: {},
};

function example(issue: ZodIssue): string | undefined {
  switch (issue.code) {
    case "invalid_type":
      return JSON.stringify(EXAMPLES[issue.expected]);
    case "invalid_value":
      return JSON.stringify(issue.values[0]);
    case "too_small":
      if (issue.origin === "string") return JSON.stringify(EXAMPLES["string"]);
      return issue.inclusive && UNITS[issue.origin] === undefined ? `${issue.minimum}` : undefined;
    case "too_big":
      return issue.inclusive && UNITS[issue.origin] === undefined ? `${issue.maximum}` : undefined;
    case "invalid_union": {
      const [first] = firstsOf(issue.errors);
      return first && example(first);
    }
    default:
      return undefined;
  }
}

function unionNeeds(branches: readonly (readonly ZodIssue[])[]): string {
  return [...new Set(firstsOf(branches).map(needed))].join(" or ") || "another value";
}

function bound(relation: string, limit: number | bigint, origin: string): string {
  return `${relation} ${counted(limit, origin)}`;
}

function counted(count: number | bigint, origin: string): string {
  const unit = UNITS[origin];
  return unit === undefined ? `${count}` : `${count} ${unit}${Number(count) === 1 ? "" : "s"}`;
}

function withArticle(noun: string): string {
  return /^[aeiou]/.test(noun) ? `an ${noun}` : `a ${noun}`;
}

function join(path: Path): string {
  return path.map(String).join(".");
}

function at(input: unknown, path: Path): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

/** A value as a message shows it: short, and without the content of what is long. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= FOUND_CHARS_MAX ? text : `${text.slice(0, FOUND_CHARS_MAX)}…`;
}

import { z } from "zod";

declare module "zod" {
  /** What a field of a command's arguments may say beside its description. */
  interface GlobalMeta {
    /** One letter: `v` gives `-v`. */
    short?: string;
    /** Name of the value in the help: `N`, `ADDR`. */
    value?: string;
    /** Environment variable that counts when the flag is absent. */
    env?: string;
    /** Heading in the help under which the flag stands. */
    group?: string;
  }
}

/** One argument of a command, as the command line knows it. */
export interface Flag {
  /** The key in the schema: `minNodes`. */
  readonly key: string;
  /** The flag: `min-nodes`. */
  readonly kebab: string;
  readonly kind: "boolean" | "number" | "text";
  readonly isList: boolean;
  readonly isRequired: boolean;
  readonly choices: readonly string[];
  readonly description: string;
  readonly default: unknown;
  readonly short: string | undefined;
  readonly value: string;
  readonly env: string | undefined;
  /** Heading in the help; undefined for the flags that need none. */
  readonly group: string | undefined;
}

interface Property {
  type?: string;
  enum?: string[];
  items?: Property;
  default?: unknown;
  description?: string;
  short?: string;
  value?: string;
  env?: string;
  group?: string;
}

/** The arguments that a schema describes, in its order. */
export function flagsOf(schema: z.ZodObject): Flag[] {
  const options = { unrepresentable: "any" } as const;
  const output = z.toJSONSchema(schema, { ...options, io: "output" });
  const input = z.toJSONSchema(schema, { ...options, io: "input" });
  const properties = (output.properties ?? {}) as Record<string, Property>;
  const required = new Set(input.required ?? []);
  return Object.entries(properties).map(([key, property]) =>
    flagOf(key, property, required.has(key))
  );
}

function flagOf(key: string, property: Property, isRequired: boolean): Flag {
  const isList = property.type === "array";
  const one = isList ? property.items ?? {} : property;
  const kind = kindOf(one.type);
  const choices = one.enum ?? [];
  const kebab = kebabOf(key);
  return {
    key,
    kebab,
    kind,
    isList,
    isRequired,
    choices,
    description: property.description ?? "",
    default: property.default,
    short: property.short,
    value: property.value ?? (kind === "number" ? "N" : choices.join("|") || kebab.toUpperCase()),
    env: property.env,
    group: property.group,
  };
}

function kindOf(type: string | undefined): Flag["kind"] {
  if (type === "boolean") return "boolean";
  return type === "number" || type === "integer" ? "number" : "text";
}

function kebabOf(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** The flag as a person types it; one that is on by default is turned off. */
export function spelled(flag: Flag): string {
  return flag.kind === "boolean" && flag.default === true
    ? `--no-${flag.kebab}`
    : `--${flag.kebab}`;
}

/** What the help says of a flag. */
export function helpOf({ kind, description, default: standard, env }: Flag): string {
  const isSaid = standard !== undefined && kind !== "boolean" && !isEmptyList(standard);
  const words = [description];
  if (isSaid) words.push(`(default: ${[standard].flat().join(", ")})`);
  if (env) words.push(`[${env}]`);
  return words.filter((word) => word !== "").join(" ");
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** What was typed, as the schema reads it; an absent flag may come from the environment. */
export function valuesOf(
  flags: readonly Flag[],
  typed: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const flag of flags) {
    const value = typed[flag.key] ?? namedBy(flag, env);
    if (value !== undefined) values[flag.key] = read(flag, value);
  }
  return values;
}

/** What the environment says; of a list, with commas between. */
function namedBy({ env: name, isList }: Flag, env: Readonly<Record<string, string | undefined>>) {
  const value = name === undefined ? undefined : env[name] || undefined;
  if (value === undefined || !isList) return value;
  return value.split(",").map((one) => one.trim()).filter((one) => one !== "");
}

function read(flag: Flag, value: unknown): unknown {
  if (flag.isList) return [value].flat().map((one) => readOne(flag, one));
  return readOne(flag, value);
}

/** Text that is no number stays text, so that the schema's complaint can show it. */
function readOne({ kind }: Flag, value: unknown): unknown {
  if (typeof value !== "string") return value;
  if (kind === "boolean") return !["", "0", "false", "no"].includes(value.toLowerCase());
  return kind === "number" && /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value.trim())
    ? Number(value)
    : value;
}

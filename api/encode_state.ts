import type { Instance } from "../core/instance.ts";

/** JSON as the outside knows it. */
export type Json = null | boolean | number | string | readonly Json[] | {
  readonly [key: string]: Json;
};

/**
 * A value of ours with external tags: an object with a string `type` becomes one key, that type,
 * around the rest. Tables become objects; fields keep their camelCase (spec §1.1).
 */
export function externalTags(value: unknown): Json {
  if (value instanceof Map) return fromEntries(value.entries());
  if (Array.isArray(value)) return value.map(externalTags);
  if (typeof value !== "object" || value === null) return value as Json;
  const { type, ...rest } = value as Record<string, unknown>;
  if (typeof type === "string") return { [type]: fromEntries(Object.entries(rest)) };
  return fromEntries(Object.entries(value));
}

/** The reverse for one object: `{Tag: {…}}` becomes `{type: "Tag", …}`, at every depth. */
export function internalTags(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(internalTags);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  const [only] = entries;
  if (only && entries.length === 1 && isTag(only[0]) && isRecord(only[1])) {
    return { type: only[0], ...mapped(Object.entries(only[1])) };
  }
  return mapped(entries);
}

/** An instance as `/instance`, `/state` and `/instance/await` show it. */
export function encodeInstance(instance: Instance): Json {
  return externalTags(instance);
}

/** Values by their keys, each with external tags; those that are undefined are left out. */
export function fromEntries(entries: Iterable<readonly [string, unknown]>): Json {
  return Object.fromEntries(
    [...entries].filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key, externalTags(value)]),
  );
}

/** Fields in `snake_case`, as upstream writes streams by hand (spec §1.1); tags and ids stay. */
export function snakeFields(value: Json): Json {
  if (isList(value)) return value.map(snakeFields);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [snakeField(key), snakeFields(inner)]),
  );
}

/** Only what is written as a field is: ids of nodes and models, which may be keys too, are not. */
function snakeField(key: string): string {
  if (!/^[a-z]+([A-Z][a-z0-9]*)+$/.test(key)) return key;
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

function mapped(entries: readonly [string, unknown][]): object {
  return Object.fromEntries(entries.map(([key, value]) => [key, internalTags(value)]));
}

/** Tags are `PascalCase`; fields and ids are not. */
function isTag(key: string): boolean {
  return /^[A-Z][A-Za-z]+(Instance|Metadata)$/.test(key);
}

function isRecord(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

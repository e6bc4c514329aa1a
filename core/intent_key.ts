import { z } from "zod";

/** The kinds of things that a user asks for. */
export const IntentKind = z.enum(["card", "link", "meta", "instance"]);
export type IntentKind = z.infer<typeof IntentKind>;

/** A thing that a user has asked for, by its kind and id: `meta:…`, as in `State.stamps`. */
export const IntentKey = z.templateLiteral([IntentKind, ":", z.string()]);
export type IntentKey = z.infer<typeof IntentKey>;

/** The kind and the id of a key. */
export function partsOf(key: IntentKey): { kind: IntentKind; id: string } {
  const colon = key.indexOf(":");
  return { kind: IntentKind.parse(key.slice(0, colon)), id: key.slice(colon + 1) };
}

import { deepEqual, equal, ok } from "node:assert/strict";
import { z } from "zod";
import { firstIssue, type Issue, show } from "../../core/issues.ts";

/** What the schema has against the input. */
function issueOf(schema: z.ZodType, input: unknown): Issue {
  const { error } = schema.safeParse(input);
  ok(error, `${show(input)} passes`);
  return firstIssue(error, input);
}

/** Found and needed, as a message has them. */
function told(schema: z.ZodType, input: unknown): string {
  const { found, needed } = issueOf(schema, input);
  return `found ${found}, ${needed} needed`;
}

const example = (schema: z.ZodType, input: unknown) => issueOf(schema, input).example;

const Message = z.object({ role: z.enum(["user", "system"]), content: z.string() });

Deno.test("firstIssue() names the field by its path, what it holds and what it needs", () => {
  const input = { messages: [{ role: "user", content: "" }, { role: "user", content: 7 }] };
  deepEqual(issueOf(z.object({ messages: z.array(Message) }), input), {
    param: "messages.1.content",
    found: "7",
    needed: "a string",
    example: '"text"',
    isMissing: false,
  });
});

Deno.test("firstIssue() tells a missing field from a wrong one", () => {
  const { param, found, isMissing } = issueOf(Message, { role: "user" });
  deepEqual([param, found, isMissing], ["content", "nothing", true]);
  // A rule of a schema's own may ask for a field of what is no object.
  const deep = z.unknown().superRefine((_, context) => {
    context.addIssue({ code: "custom", path: ["a", "b"], message: "b of a" });
  });
  for (const input of [{ a: 1 }, { a: null }, {}, "text"]) {
    deepEqual([issueOf(deep, input).isMissing, told(deep, input)], [
      true,
      "found nothing, b of a needed",
    ]);
  }
});

Deno.test("firstIssue() names the first field that a schema does not know", () => {
  const schema = z.object({ options: z.strictObject({}) });
  deepEqual(issueOf(schema, { options: { a: 1, b: 2 } }), {
    param: "options.a",
    found: "an unknown field",
    needed: "a known one",
    isUnknown: true,
  });
});

Deno.test("firstIssue() calls types as JSON does, with their article", () => {
  equal(told(z.int(), 1.5), "found 1.5, an integer needed");
  equal(told(z.record(z.string(), z.int()), 1), "found 1, an object needed");
  equal(told(z.array(z.int()), {}), "found {}, an array needed");
  equal(told(z.boolean(), null), "found null, a boolean needed");
  equal(example(z.record(z.string(), z.int()), 1), "{}");
  equal(example(z.bigint(), 1), undefined);
});

Deno.test("firstIssue() names the values that are possible", () => {
  equal(told(z.literal("on"), "off"), 'found "off", "on" needed');
  equal(told(z.enum(["a", "b"]), "c"), 'found "c", one of a, b needed');
  equal(example(z.enum(["a", "b"]), "c"), '"a"');
});

Deno.test("firstIssue() tells limits of numbers, with the limit as an example where it is allowed", () => {
  equal(told(z.number().min(1), 0), "found 0, at least 1 needed");
  equal(told(z.number().gt(1), 1), "found 1, more than 1 needed");
  equal(told(z.number().max(2), 3), "found 3, at most 2 needed");
  equal(told(z.number().lt(2), 2), "found 2, less than 2 needed");
  equal(example(z.number().min(1), 0), "1");
  equal(example(z.number().gt(1), 1), undefined);
  equal(example(z.number().max(2), 3), "2");
  equal(example(z.number().lt(2), 2), undefined);
});

Deno.test("firstIssue() counts what is too long instead of repeating it", () => {
  equal(told(z.string().max(1), "abc"), "found 3 characters, at most 1 character needed");
  equal(told(z.array(z.int()).max(2), [1, 2, 3]), "found 3 elements, at most 2 elements needed");
  equal(told(z.string().min(1), ""), 'found "", at least 1 character needed');
  equal(told(z.array(z.int()).min(2), []), "found [], at least 2 elements needed");
  equal(example(z.string().max(1), "abc"), undefined);
  equal(example(z.array(z.int()).min(2), []), undefined);
  equal(example(z.string().min(1), ""), '"text"');
  // What is counted after a transform is shown as it was given.
  equal(
    told(z.number().transform(String).pipe(z.string().max(1)), 12),
    "found 12, at most 1 character needed",
  );
});

Deno.test("firstIssue() names the form of a text, or what it is to be", () => {
  equal(told(z.string().regex(/^a$/), "b"), 'found "b", the form /^a$/ needed');
  equal(told(z.url(), "b"), 'found "b", a valid url needed');
  equal(example(z.url(), "b"), undefined);
});

Deno.test("firstIssue() repeats what a schema says of a rule of its own", () => {
  const even = z.number().refine((n) => n % 2 === 0, { error: "an even number" });
  equal(told(even, 3), "found 3, an even number needed");
  equal(example(even, 3), undefined);
});

Deno.test("firstIssue() follows the branch of a union that got furthest into the input", () => {
  const schema = z.object({ stop: z.union([z.string(), z.array(z.string())]) });
  const { param, found, needed } = issueOf(schema, { stop: ["a", 2] });
  deepEqual([param, found, needed], ["stop.1", "2", "a string"]);
});

Deno.test("firstIssue() follows the one branch of a union that takes the input's type", () => {
  const schema = z.union([z.number(), z.enum(["auto", "none"])]);
  equal(told(schema, "all"), 'found "all", one of auto, none needed');
});

Deno.test("firstIssue() tells what all branches of a union need when none of them is meant", () => {
  const schema = z.union([z.string(), z.int(), z.string().nullable()]);
  const { found, needed, example } = issueOf(schema, true);
  deepEqual([found, needed, example], ["true", "a string or a number", '"text"']);
});

Deno.test("firstIssue() names the types of which a tagged union has one", () => {
  const tagged = z.discriminatedUnion("type", [
    z.object({ type: z.literal("text") }),
    z.object({ type: z.literal("image") }),
  ]);
  deepEqual(issueOf(tagged, { type: "sound" }), {
    param: "type",
    found: '"sound"',
    needed: "one of text, image",
    example: undefined,
    isMissing: false,
  });
});

Deno.test("firstIssue() has words for complaints that say nothing", () => {
  equal(told(z.xor([z.string(), z.literal("a")]), "a"), 'found "a", another value needed');
  deepEqual(firstIssue(new z.ZodError([]), 5), { param: "", found: "5", needed: "another value" });
});

Deno.test("show() is short, and has a word for what JSON has none for", () => {
  const numbers = [...Array(100).keys()];
  deepEqual([undefined, NaN, -Infinity, 1.5, "a", null, { a: [1] }].map(show), [
    "nothing",
    "NaN",
    "-Infinity",
    "1.5",
    '"a"',
    "null",
    '{"a":[1]}',
  ]);
  equal(show(Symbol("s")), "Symbol(s)");
  equal(show("a".repeat(58)), `"${"a".repeat(58)}"`);
  equal(show("a".repeat(59)), `"${"a".repeat(59)}…`);
  equal(show(numbers).length, 61);
});

import assert from "node:assert/strict";
import { z } from "zod";
import { boundedArray, boundedCounts, boundedRecord } from "../../core/bounded.ts";

const nonsense = (length: number) => Array.from({ length }, () => ({}));
const issues = (schema: z.ZodType, value: unknown) => schema.safeParse(value).error?.issues.length;

Deno.test("an array has limits, and one that is too long is not looked into", () => {
  const schema = boundedArray(z.string(), 2, 1);
  assert.deepEqual(schema.parse(["a", "b"]), ["a", "b"]);
  assert.equal(issues(schema, []), 1);
  assert.equal(issues(schema, "ab"), 1);
  assert.equal(issues(schema, nonsense(2)), 2);
  assert.equal(issues(schema, nonsense(10_000)), 1);
});

Deno.test("a record that is too long is not looked into", () => {
  const schema = boundedRecord(z.string().max(1), z.number(), 2);
  assert.deepEqual(schema.parse({ a: 1, b: 2 }), { a: 1, b: 2 });
  assert.equal(issues(schema, { a: "1", b: "2" }), 2);
  assert.equal(issues(schema, { ...nonsense(10_000) }), 1);
});

Deno.test("whatever is wrong with numbers is one issue", () => {
  const schema = boundedCounts(255, 3);
  assert.deepEqual(schema.parse([0, 255]), [0, 255]);
  for (const wrong of [7, [1, 2, 3, 4], [-1], [256], [0.5], [NaN, "1", {}], nonsense(10_000)]) {
    assert.equal(issues(schema, wrong), 1, JSON.stringify(wrong)?.slice(0, 50));
  }
});

import { deepEqual, equal } from "node:assert/strict";
import { REASON_CHARS_MAX, shortened, shortError } from "../../core/short_text.ts";

const LONG = "x".repeat(10_000);

Deno.test("an error of another node has short texts, and only what is of use elsewhere", () => {
  const code = "internal";
  deepEqual(shortError({ code, message: "m", param: "p" }), { code, message: "m" });
  const { message, hint } = shortError({ code, message: LONG, hint: LONG });
  deepEqual([message.length, hint?.length], [REASON_CHARS_MAX, REASON_CHARS_MAX]);
});

Deno.test("shortened() keeps what fits, and ends what does not by an ellipsis", () => {
  equal(shortened("abc", 3), "abc");
  equal(shortened("abcd", 3), "ab…");
  equal(shortened("ab😀", 4), "ab😀");
  equal(shortened("a😀bc", 3), "a…", "no half of a sign is left");
});

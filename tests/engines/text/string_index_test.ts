import { equal } from "node:assert/strict";
import fc from "fast-check";
import { GgufStrings } from "../../../core/gguf_strings.ts";
import { StringIndex } from "../../../engines/text/string_index.ts";

/** Few letters, so that texts are like one another; of one byte to four. */
const text = fc.string({ unit: fc.constantFrom("a", "b", " ", "Ġ", "語", "😀"), maxLength: 4 });

Deno.test("StringIndex finds the last place of each text, and no other text", () => {
  fc.assert(fc.property(fc.array(text), fc.array(text), (strings, others) => {
    const index = new StringIndex(GgufStrings.of(strings));
    for (const wanted of [...strings, ...others, "a".repeat(100)]) {
      const at = strings.lastIndexOf(wanted);
      equal(index.find(wanted), at < 0 ? undefined : at, JSON.stringify([strings, wanted]));
    }
  }));
});

Deno.test("StringIndex takes a list that has one text over and over", () => {
  const strings = Array.from({ length: 200_000 }, () => "again");
  equal(new StringIndex(GgufStrings.of(strings)).find("again"), strings.length - 1);
});

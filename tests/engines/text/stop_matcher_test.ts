import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { StopMatcher } from "../../../engines/text/stop_matcher.ts";

/** What comes through of text in pieces, and whether a stop was met. */
function run(stops: readonly string[], pieces: readonly string[]) {
  const matcher = new StopMatcher(stops);
  let text = "";
  for (const piece of pieces) {
    const matched = matcher.add(piece);
    text += matched.text;
    if (matched.isStopped) return { text, isStopped: true };
  }
  return { text: text + matcher.finish(), isStopped: false };
}

/** The rule itself: the stop that ends first counts, of those the longest. */
function oracle(stops: readonly string[], text: string) {
  for (let end = 1; end <= text.length; end++) {
    const [stop] = stops.filter((stop) => text.slice(0, end).endsWith(stop))
      .sort((a, b) => b.length - a.length);
    if (stop !== undefined) return { text: text.slice(0, end - stop.length), isStopped: true };
  }
  return { text, isStopped: false };
}

const letters = (maxLength: number) =>
  fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 0, maxLength });
const stops = fc.array(letters(4).filter((stop) => stop !== ""), { maxLength: 4 });

Deno.test("StopMatcher does the same whatever the pieces", () => {
  fc.assert(
    fc.property(stops, fc.array(letters(5), { maxLength: 12 }), (stops, pieces) => {
      deepEqual(run(stops, pieces), oracle(stops, pieces.join("")));
    }),
    { numRuns: 1000 },
  );
});

Deno.test("StopMatcher never lets the beginning of a stop through", () => {
  const matcher = new StopMatcher(["</end>"]);
  deepEqual(matcher.add("text</e"), { text: "text", isStopped: false });
  deepEqual(matcher.add("m></en"), { text: "</em>", isStopped: false });
  deepEqual(matcher.add("d>rest"), { text: "", isStopped: true });
});

Deno.test("StopMatcher passes everything through at once without stops", () => {
  const matcher = new StopMatcher([]);
  equal(matcher.add("abc").text, "abc");
  equal(matcher.finish(), "");
});

Deno.test("StopMatcher holds back no more than the longest stop less one", () => {
  fc.assert(fc.property(stops, fc.array(letters(5), { maxLength: 12 }), (stops, pieces) => {
    const matcher = new StopMatcher(stops);
    const longest = Math.max(1, ...stops.map((stop) => stop.length));
    let held = 0;
    for (const piece of pieces) {
      const { text, isStopped } = matcher.add(piece);
      if (isStopped) return;
      held += piece.length - text.length;
      ok(held < longest);
    }
  }));
});

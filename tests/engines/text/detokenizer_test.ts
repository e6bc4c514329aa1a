import { equal } from "node:assert/strict";
import fc from "fast-check";
import { Detokenizer } from "../../../engines/text/detokenizer.ts";

/** A tokenizer whose tokens are these runs of bytes. */
function vocabulary(tokens: readonly Uint8Array[], trimsLeadingSpace = false) {
  return { bytesOf: (id: number) => tokens[id] ?? new Uint8Array(), trimsLeadingSpace };
}

/** What streams out, piece by piece. */
function stream(tokens: readonly Uint8Array[], trims = false): string[] {
  const detokenizer = new Detokenizer(vocabulary(tokens, trims));
  return [...tokens.map((_, id) => detokenizer.add(id)), detokenizer.finish()];
}

function concatenated(tokens: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(tokens.flatMap((token) => [...token]));
}

/** The pieces of `bytes` between these places. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...places.map((p) => p % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
}

const places = fc.array(fc.nat(1000), { maxLength: 20 });

Deno.test("Detokenizer gives the whole text whatever the split, never a broken letter", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), places, (raw, where) => {
    const text = raw.toWellFormed();
    const pieces = stream(cut(new TextEncoder().encode(text), where));
    equal(pieces.join(""), text);
    for (const piece of pieces) equal(piece, piece.toWellFormed());
  }));
});

Deno.test("Detokenizer makes of any bytes what decoding them at once makes", () => {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 5 })), (tokens) => {
    equal(stream(tokens).join(""), decoder.decode(concatenated(tokens)));
  }));
});

Deno.test("Detokenizer holds incomplete bytes back and flushes them at the end", () => {
  const [a, b, c, d] = new TextEncoder().encode("🙂");
  const bytes = [a, b, c, d].map((byte) => Uint8Array.of(byte ?? 0));
  equal(JSON.stringify(stream(bytes)), JSON.stringify(["", "", "", "🙂", ""]));
  equal(stream(bytes.slice(0, 2)).join(""), "\ufffd");
});

Deno.test("Detokenizer drops one leading space where the encoder put one", () => {
  const tokens = ["", " ", " a", " b"].map((text) => new TextEncoder().encode(text));
  equal(stream(tokens, true).join(""), " a b");
  equal(stream(tokens).join(""), "  a b");
});

import { AppError } from "../../core/errors.ts";

/** What the decoder of a `tokenizer.json` makes of one token. */
export interface TokenBytes {
  readonly bytesOf: (token: string, isAdded: boolean) => Uint8Array;
  readonly trimsLeadingSpace: boolean;
}

const UTF8 = new TextEncoder();

/**
 * GPT-2's letters for bytes: printable ones stand for themselves, the other 68 for letters from
 * U+0100 on, in order.
 */
const BYTE_OF_LETTER: ReadonlyMap<string, number> = (() => {
  const letters = new Map<string, number>();
  let spare = 256;
  for (let byte = 0; byte < 256; byte++) {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    letters.set(String.fromCharCode(isPrintable ? byte : spare++), byte);
  }
  return letters;
})();

function byteLevelBytes(token: string, isAdded: boolean): Uint8Array {
  if (isAdded) return UTF8.encode(token);
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_LETTER.get(token[i] ?? "");
    if (byte === undefined) return UTF8.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}

function sentencePieceBytes(token: string): Uint8Array {
  const hex = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
  return hex === undefined
    ? UTF8.encode(token.replaceAll("▁", " "))
    : Uint8Array.of(Number.parseInt(hex, 16));
}

/** The decoder and, of a sequence, its parts. */
function decoderSteps(decoder: unknown): Record<string, unknown>[] {
  if (typeof decoder !== "object" || decoder === null) return [];
  const { type, decoders } = decoder as { type?: unknown; decoders?: unknown };
  return type === "Sequence" && Array.isArray(decoders)
    ? decoders.flatMap(decoderSteps)
    : [decoder as Record<string, unknown>];
}

/**
 * How tokens become bytes, by the decoder of a `tokenizer.json`. Bytes, so that a character may be
 * spread over tokens.
 * @throws {AppError} `unsupported_model` for a decoder that looks at more than one token.
 */
export function tokenBytesOf(decoder: unknown): TokenBytes {
  const steps = decoderSteps(decoder);
  const types = steps.map(({ type }) => String(type));
  if (types.includes("ByteLevel")) return { bytesOf: byteLevelBytes, trimsLeadingSpace: false };
  if (types.includes("ByteFallback") || types.includes("Metaspace")) {
    const strip = steps.find(({ type, start }) => type === "Strip" && start === 1);
    const meta = steps.find(({ type }) => type === "Metaspace");
    const isPrefixed = meta !== undefined && meta["prepend_scheme"] !== "never" &&
      meta["add_prefix_space"] !== false;
    return { bytesOf: sentencePieceBytes, trimsLeadingSpace: strip !== undefined || isPrefixed };
  }
  throw new AppError(
    "unsupported_model",
    `Cannot decode tokens one by one: decoder "${
      types.join(", ")
    }" found, one of ByteLevel, ByteFallback, Metaspace needed`,
    { hint: "choose a model whose tokenizer.json has one of them as its decoder" },
  );
}

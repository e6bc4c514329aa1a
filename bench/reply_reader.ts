import { AppError } from "../core/errors.ts";

/** Of a reply that is no answer, for the error. */
const SHOWN_CHARS = 500;

/** An answer that has no end, or is none. */
export function brokenOff(found: string): AppError {
  const shown = JSON.stringify(found.slice(0, SHOWN_CHARS));
  return new AppError("internal", `Cannot read an answer: found ${shown}, its end needed`, {
    hint: "what the server said is in the folder logs beside the peers",
  });
}

/** The lines of an HTTP/1.1 reply's body, as they are complete. Source: RFC 9112, section 7.1. */
export class ReplyReader {
  readonly #decoder = new TextDecoder();
  /** What came of the head, then what is left of a chunk's size. */
  #rest = "";
  #isInBody = false;
  #isChunked = false;
  /** Bytes of the current chunk that are still to come. */
  #left = 0;
  #line = "";

  /** What came and is no whole line yet: of a refusal, its head. */
  get heldBack(): string {
    return this.#rest + this.#line;
  }

  /** Takes the next bytes. @throws {AppError} unless the status is 200. */
  *lines(bytes: Uint8Array): Generator<string> {
    let body = bytes;
    if (!this.#isInBody) {
      const found = this.#takeHead(bytes);
      if (!found) return;
      body = found;
    }
    const text = this.#isChunked ? this.#dechunk(body) : this.#decoded(body);
    const pieces = (this.#line + text).split("\n");
    this.#line = pieces.pop() ?? "";
    yield* pieces;
  }

  #decoded(bytes: Uint8Array): string {
    return this.#decoder.decode(bytes, { stream: true });
  }

  /** The first bytes of the body, once the head is whole. Heads are ASCII. */
  #takeHead(bytes: Uint8Array): Uint8Array | undefined {
    const before = this.#rest.length;
    this.#rest += new TextDecoder("latin1").decode(bytes);
    const end = this.#rest.indexOf("\r\n\r\n");
    if (end === -1) return undefined;
    if (!/^HTTP\/1\.1 200 /.test(this.#rest)) throw brokenOff(this.#rest);
    this.#isChunked = /\r\ntransfer-encoding: *chunked/i.test(this.#rest.slice(0, end));
    this.#isInBody = true;
    this.#rest = "";
    return bytes.subarray(end + 4 - before);
  }

  #dechunk(bytes: Uint8Array): string {
    let text = "";
    let at = 0;
    while (at < bytes.length) {
      if (this.#left > 0) {
        const end = Math.min(bytes.length, at + this.#left);
        text += this.#decoded(bytes.subarray(at, end));
        this.#left -= end - at;
        at = end;
        continue;
      }
      const char = String.fromCharCode(bytes[at++] ?? 0);
      if (char !== "\n") this.#rest += char;
      // The line break after a chunk, too, ends here, with nothing before it.
      else {
        this.#left = parseInt(this.#rest, 16) || 0;
        this.#rest = "";
      }
    }
    return text;
  }
}

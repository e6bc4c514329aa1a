import { AppError } from "../core/errors.ts";
import { formatBytes, MIB } from "../core/units.ts";

/** Largest body of a request unless the server is told otherwise. */
export const BODY_BYTES_MAX = 32 * MIB;

/** Longest time that a body may take to arrive. */
export const BODY_TIMEOUT_MS = 30_000;

/** Deepest nesting of a body's JSON. */
export const JSON_DEPTH_MAX = 64;

const ONE_OBJECT = { hint: "send one JSON object" };

/** What a body may cost. */
export interface BodyLimits {
  readonly bytesMax: number;
  readonly timeoutMs: number;
}

/**
 * The JSON of a request.
 * @throws {AppError} `payload_too_large`, `request_timeout`, or `invalid_request`.
 */
export async function readJson(request: Request, limits: BodyLimits): Promise<unknown> {
  const text = await readText(request, limits);
  if (text.trim() === "") {
    throw new AppError(
      "invalid_request",
      "Cannot read the body: found nothing, JSON needed",
      ONE_OBJECT,
    );
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    const message = `Cannot read the body of ${text.length} characters as JSON: ${
      found[0]?.toLowerCase()
    }${found.slice(1)}`;
    throw new AppError("invalid_request", message, ONE_OBJECT);
  }
  checkDepth(json);
  return json;
}

/** By breadth, so that what is too deep for the stack is still refused in words. */
function checkDepth(json: unknown): void {
  let level = [json];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > JSON_DEPTH_MAX) {
      const needed = `${JSON_DEPTH_MAX} levels at most needed`;
      throw new AppError(
        "invalid_request",
        `Cannot read the body: it is nested too deep, ${needed}`,
        { hint: "send less lists and objects inside each other" },
      );
    }
    level = level.flatMap((one) =>
      one !== null && typeof one === "object" ? Object.values(one) : []
    );
  }
}

async function readText(request: Request, { bytesMax, timeoutMs }: BodyLimits): Promise<string> {
  // A length that is announced is refused before a byte of it is read.
  if (Number(request.headers.get("content-length") ?? 0) > bytesMax) throw tooLarge(bytesMax);
  if (!request.body) return "";
  const reader = request.body.getReader();
  const { promise: late, resolve: onLate } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => onLate("late"), timeoutMs);
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    let text = "";
    let bytes = 0;
    while (true) {
      const read = await Promise.race([reader.read(), late]);
      if (read === "late") throw tooSlow(timeoutMs);
      if (read.done) return text + decoder.decode();
      bytes += read.value.byteLength;
      if (bytes > bytesMax) throw tooLarge(bytesMax);
      text += decoder.decode(read.value, { stream: true });
    }
  } catch (error) {
    void reader.cancel().catch(() => {});
    if (error instanceof AppError) throw error;
    const isText = !(error instanceof TypeError);
    const found = error instanceof Error && isText ? error.message : "it is not UTF-8 text";
    const hint = isText ? "send the request again" : "send JSON in UTF-8, not compressed";
    throw new AppError("invalid_request", `Cannot read the body: ${found}`, { hint, cause: error });
  } finally {
    clearTimeout(timer);
  }
}

function tooLarge(bytesMax: number): AppError {
  const limit = formatBytes(bytesMax);
  return new AppError(
    "payload_too_large",
    `Cannot read the body: it is over ${limit}`,
    {
      hint: "send less in one request",
    },
  );
}

function tooSlow(timeoutMs: number): AppError {
  const message = `Cannot read the body: it was not complete after ${timeoutMs / 1000} s`;
  return new AppError("request_timeout", message, { hint: "send the request again" });
}

import { AppError } from "../core/errors.ts";
import { formatBytes, MIB } from "../core/units.ts";

/** Largest body of a request unless the server is told otherwise. */
export const BODY_BYTES_MAX = 32 * MIB;

/** Longest time that a body may take to arrive. */
export const BODY_TIMEOUT_MS = 30_000;

/** Deepest nesting of a body's JSON. */
export const JSON_DEPTH_MAX = 64;

const ONE_OBJECT = {
  hint: 'send one JSON object, such as {"model":"MODEL"}, with the fields of this route',
};

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
      "Cannot read the body: found nothing, one JSON object needed",
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
    }${found.slice(1)}; one object needed`;
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
      const found = `found lists and objects over ${JSON_DEPTH_MAX} deep in each other`;
      throw new AppError(
        "invalid_request",
        `Cannot read the body: ${found}, ${JSON_DEPTH_MAX} at most possible`,
        { hint: `nest them ${JSON_DEPTH_MAX} deep at most` },
      );
    }
    level = level.flatMap((one) =>
      one !== null && typeof one === "object" ? Object.values(one) : []
    );
  }
}

async function readText(request: Request, { bytesMax, timeoutMs }: BodyLimits): Promise<string> {
  // A length that is announced is refused before a byte of it is read.
  const announced = Number(request.headers.get("content-length") ?? 0);
  if (announced > bytesMax) throw tooLarge(`${announced} bytes announced`, bytesMax);
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
      if (read === "late") throw tooSlow(bytes, timeoutMs);
      if (read.done) return text + decoder.decode();
      bytes += read.value.byteLength;
      if (bytes > bytesMax) throw tooLarge(`over ${bytesMax} bytes found`, bytesMax);
      text += decoder.decode(read.value, { stream: true });
    }
  } catch (error) {
    void reader.cancel().catch(() => {});
    if (error instanceof AppError) throw error;
    const isText = !(error instanceof TypeError);
    const found = error instanceof Error && isText
      ? error.message
      : "found bytes that are no UTF-8 text, JSON in UTF-8 needed";
    const hint = isText
      ? "the connection may have broken off; send the request once more"
      : "send JSON in UTF-8, without a content-encoding such as gzip";
    throw new AppError("invalid_request", `Cannot read the body: ${found}`, { hint, cause: error });
  } finally {
    clearTimeout(timer);
  }
}

function tooLarge(found: string, bytesMax: number): AppError {
  const limit = formatBytes(bytesMax);
  return new AppError("payload_too_large", `Cannot read the body: ${found}, ${limit} possible`, {
    hint: `send ${limit} at most in one request, such as fewer of a chat's messages`,
  });
}

function tooSlow(bytes: number, timeoutMs: number): AppError {
  const limit = `${timeoutMs / 1000} s`;
  const message = `Cannot read the body: ${bytes} bytes came in ${limit}, all of it needed by then`;
  return new AppError("request_timeout", message, {
    hint: `send all of the content-length that is announced, within ${limit}`,
  });
}

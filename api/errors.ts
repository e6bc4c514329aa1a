import { distance } from "fastest-levenshtein";
import { z } from "zod";
import { AppError, type ErrorInfo, ERRORS, toAppError } from "../core/errors.ts";
import { firstIssue, type Issue } from "../core/issues.ts";

/** The reason phrases of the statuses in the table of error codes. */
const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  413: "Payload Too Large",
  429: "Too Many Requests",
  499: "Client Closed Request",
  500: "Internal Server Error",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** Slips between a field that nobody knows and the one that was meant. */
const SLIPS_MAX = 2;

/** How long a client should wait before it tries again, in seconds. */
const RETRY_AFTER_S = 1;

/**
 * The shape of every error of ours (spec §1.2): `type` is the reason phrase and `code` the status,
 * as OpenAI's clients read them. `exo_code` and `hint` are ours; the message stays without the
 * hint, so that messages which clients know by heart keep their words.
 */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: number;
    readonly exo_code: string;
    readonly hint?: string;
  };
}

/** An error as the body of a reply. */
export function errorBody({ code, message, hint, param }: ErrorInfo): ErrorBody {
  const { http } = ERRORS[code];
  return {
    error: {
      message,
      type: reason(http),
      param: param ?? null,
      code: http,
      exo_code: code,
      ...(hint === undefined ? {} : { hint }),
    },
  };
}

/** An error inside a stream: the type is one word, and nulls are left out (spec §1.2). */
export function streamErrorBody(info: ErrorInfo): object {
  const { param, ...error } = errorBody(info).error;
  const type = error.type.replaceAll(" ", "");
  return { error: { ...error, type, ...(param === null ? {} : { param }) } };
}

/** Whatever was thrown, as a reply; a defect of ours shows its message, never its stack. */
export function errorResponse(thrown: unknown): Response {
  const error = toAppError(thrown);
  const { http, retryable } = ERRORS[error.code];
  const headers = new Headers({ "content-type": "application/json" });
  if (retryable && (http === 429 || http === 503)) headers.set("retry-after", `${RETRY_AFTER_S}`);
  if (http === 401) headers.set("www-authenticate", "Bearer");
  return new Response(JSON.stringify(errorBody(error.toInfo())), { status: http, headers });
}

/** `input` as `schema` reads it. @throws {AppError} `invalid_request` with the field at fault. */
export function parse<S extends z.ZodType>(schema: S, input: unknown): z.output<S> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = firstIssue(result.error, input);
  const { param, found, needed } = issue;
  const place = param === "" ? "the request" : `"${param}"`;
  const message = `Cannot read ${place}: found ${found}, ${needed} needed`;
  const hint = nextStep(issue, schema instanceof z.ZodObject ? Object.keys(schema.shape) : []);
  throw new AppError("invalid_request", message, { param: param || undefined, hint });
}

/** What to do about a field; `known` are those of the request itself. */
function nextStep({ param, isMissing, isUnknown }: Issue, known: readonly string[]): string {
  if (param === "") return "send one JSON object";
  if (isMissing) return `add "${param}" and send the request again`;
  if (!isUnknown) return `correct "${param}" and send the request again`;
  const meant = known.find((name) => distance(name, param) <= SLIPS_MAX);
  return meant === undefined ? `leave "${param}" out` : `did you mean "${meant}"?`;
}

/** Refuses a parameter that would change the answer and that this version cannot honour. */
export function unsupported(param: string, found: string, hint: string): AppError {
  const message = `Cannot honour "${param}": ${found} is not supported by this version`;
  return new AppError("unsupported_parameter", message, { param, hint });
}

function reason(status: number): string {
  return REASONS[status] ?? "Error";
}

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
  410: "Gone",
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

/** Values that fields of a request may well hold, by path with `*` for an index, for hints. */
export type Examples = Readonly<Record<string, unknown>>;

/**
 * `input` as `schema` reads it. `advice` has examples for hints, or is the hint for any fault where
 * no one field mends it.
 * @throws {AppError} `invalid_request` with the field at fault.
 */
export function parse<S extends z.ZodType>(
  schema: S,
  input: unknown,
  advice: Examples | string = {},
): z.output<S> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = firstIssue(result.error, input);
  const { param, found, needed } = issue;
  const place = param === "" ? "the request" : `"${param}"`;
  const message = `Cannot read ${place}: found ${found}, ${needed} needed`;
  const shape: Shape = schema instanceof z.ZodObject ? schema.shape : {};
  const hint = typeof advice === "string" ? advice : nextStep(issue, shape, advice);
  throw new AppError("invalid_request", message, { param: param || undefined, hint });
}

/** The fields of the request itself. */
type Shape = Readonly<Record<string, z.ZodType>>;

/** What to do about a field. */
function nextStep(issue: Issue, shape: Shape, examples: Examples): string {
  const { param, isMissing, isUnknown } = issue;
  if (param === "") return `send an object such as ${JSON.stringify(requiredOf(shape, examples))}`;
  if (isUnknown) {
    const meant = Object.keys(shape).find((name) => isSlip(param, name));
    return meant === undefined ? `leave "${param}" out` : `did you mean "${meant}"?`;
  }
  const own = JSON.stringify(examples[param.replace(/\d+/g, "*")]);
  const value = own ?? issue.example;
  if (isMissing) return value === undefined ? `add "${param}"` : `add "${param}", such as ${value}`;
  const [field = ""] = param.split(".");
  const otherwise = isOptional(shape[field]) ? `, or leave "${field}" out` : "";
  const needed = value === undefined ? issue.needed : `a value such as ${value}`;
  return `set "${param}" to ${needed}${otherwise}`;
}

/** Whether a few slips make one name the other; a name of which all is a slip is none. */
function isSlip(found: string, meant: string): boolean {
  const slips = distance(found, meant);
  return slips <= SLIPS_MAX && slips < Math.min(found.length, meant.length);
}

/** The smallest request that has all that it must have. */
function requiredOf(shape: Shape, examples: Examples): Examples {
  const required = Object.entries(examples)
    .filter(([name]) => name in shape && !isOptional(shape[name]));
  return Object.fromEntries(required);
}

function isOptional(schema: z.ZodType | undefined): boolean {
  return schema !== undefined && schema.safeParse(undefined).success;
}

/** What this version cannot honour of a request, and what it could. */
export interface Unsupported {
  readonly found: string;
  readonly needed: string;
  readonly hint: string;
}

/** Refuses a parameter that would change the answer and that this version cannot honour. */
export function unsupported(param: string, { found, needed, hint }: Unsupported): AppError {
  const message = `Cannot honour "${param}": found ${found}, ${needed} needed by this version`;
  return new AppError("unsupported_parameter", message, { param, hint });
}

function reason(status: number): string {
  return REASONS[status] ?? "Error";
}

import { z } from "zod";

/**
 * The one table of error codes. `http` is the status of a reply, `exit` the exit code of a command
 * (design §4), `retryable` says whether the same request may succeed later without a change.
 */
export const ERRORS = {
  invalid_request: { http: 400, exit: 1, retryable: false },
  usage: { http: 400, exit: 2, retryable: false },
  unsupported_parameter: { http: 400, exit: 1, retryable: false },
  context_length_exceeded: { http: 400, exit: 1, retryable: false },
  unsupported_model: { http: 400, exit: 1, retryable: false },
  corrupt_model: { http: 400, exit: 1, retryable: false },
  placement_failed: { http: 400, exit: 1, retryable: true },
  unauthorized: { http: 401, exit: 1, retryable: false },
  forbidden: { http: 403, exit: 1, retryable: false },
  not_found: { http: 404, exit: 4, retryable: false },
  model_not_found: { http: 404, exit: 4, retryable: false },
  instance_not_found: { http: 404, exit: 4, retryable: false },
  method_not_allowed: { http: 405, exit: 1, retryable: false },
  request_timeout: { http: 408, exit: 5, retryable: true },
  compacted: { http: 410, exit: 1, retryable: false },
  conflict: { http: 409, exit: 1, retryable: false },
  client_too_slow: { http: 408, exit: 1, retryable: false },
  payload_too_large: { http: 413, exit: 1, retryable: false },
  queue_full: { http: 429, exit: 1, retryable: true },
  cancelled: { http: 499, exit: 130, retryable: false },
  internal: { http: 500, exit: 1, retryable: false },
  runner_failed: { http: 500, exit: 1, retryable: true },
  load_failed: { http: 500, exit: 1, retryable: false },
  storage_failed: { http: 500, exit: 1, retryable: false },
  setup_failed: { http: 500, exit: 1, retryable: false },
  instance_removed: { http: 503, exit: 1, retryable: true },
  group_broken: { http: 503, exit: 1, retryable: true },
  node_lost: { http: 503, exit: 1, retryable: true },
  out_of_memory: { http: 503, exit: 1, retryable: true },
  not_ready: { http: 503, exit: 1, retryable: true },
  master_changed: { http: 503, exit: 1, retryable: true },
  node_unreachable: { http: 503, exit: 3, retryable: true },
  timed_out: { http: 504, exit: 5, retryable: true },
} as const;

/** A code of the table. */
export type ErrorCode = keyof typeof ERRORS;

/** An error as data: what crosses a pipe, a stream or the log. */
export const ErrorInfo = z.object({
  code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]),
  message: z.string(),
  hint: z.string().optional(),
  /** The request's field at fault, as a path: `messages.0.role`. */
  param: z.string().optional(),
});
export type ErrorInfo = z.infer<typeof ErrorInfo>;

/** A failure of the world: what was attempted, found and needed, and what to do next. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly param: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { hint?: string | undefined; param?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.hint = options.hint;
    this.param = options.param;
  }

  /** Whether the same request may succeed later without a change. */
  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }

  /** The error as data. */
  toInfo(): ErrorInfo {
    return {
      code: this.code,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.param === undefined ? {} : { param: this.param }),
    };
  }

  /** The error that `info` describes. */
  static from(info: ErrorInfo): AppError {
    return new AppError(info.code, info.message, { hint: info.hint, param: info.param });
  }
}

/** Any thrown value as an `AppError`; what is not one already becomes `fallback`. */
export function toAppError(thrown: unknown, fallback: ErrorCode = "internal"): AppError {
  if (thrown instanceof AppError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new AppError(fallback, message, { cause: thrown });
}

/** Stops on a broken invariant: a defect of ours, not of the world. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Broken invariant: ${message}`);
}

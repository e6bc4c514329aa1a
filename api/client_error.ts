import { z } from "zod";
import { AppError, type ErrorCode, ERRORS } from "../core/errors.ts";

const WireError = z.object({
  error: z.object({
    message: z.string(),
    code: z.unknown(),
    exo_code: z.string().optional(),
    hint: z.string().optional(),
    param: z.string().nullish(),
  }),
});

/** The error in a body or a stream message; undefined when it holds none of that shape. */
export function readError(text: string, status = 500): AppError | undefined {
  const { data } = WireError.safeParse(parsed(text));
  if (!data) return undefined;
  const { message, exo_code, hint, param } = data.error;
  return new AppError(codeOf(exo_code, status), message, { hint, param: param ?? undefined });
}

/** Our code when it is one of this version, else the first that has this status. */
function codeOf(given: string | undefined, status: number): ErrorCode {
  const codes = Object.keys(ERRORS) as ErrorCode[];
  return codes.find((code) => code === given) ??
    codes.find((code) => ERRORS[code].http === status) ?? "internal";
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

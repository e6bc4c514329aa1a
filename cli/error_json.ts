import { z } from "zod";
import { ErrorInfo } from "../core/errors.ts";

/** An error inside a result. */
export const ErrorFields = z.strictObject({
  code: ErrorInfo.shape.code.describe("A code of the table of errors"),
  message: z.string().describe("What was attempted, found and needed"),
  hint: z.string().optional().describe("What to do next"),
  param: z.string().optional().describe("The argument or field at fault"),
});

/** What `--json` prints on stderr when a command fails. */
export const ErrorJson = z.strictObject({ error: ErrorFields.describe("Why it failed") });

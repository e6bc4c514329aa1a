import { AppError } from "./errors.ts";

/** What to do about a file that has other bytes than its publisher's. */
const FETCH_AGAIN =
  "the file is damaged or its download is incomplete; fetch it again and compare its SHA-256";

/** The refusal of a model file, GGUF or safetensors, that is damaged. */
export function corrupt(file: string, found: string, hint = FETCH_AGAIN): AppError {
  return new AppError("corrupt_model", `Cannot read "${file}": ${found}`, { hint });
}

import assert from "node:assert/strict";
import { AppError, type ErrorCode } from "../../core/errors.ts";

/** That `run` is rejected with this code, the message says why, and what to do about it. */
export function rejects(run: () => unknown, code: ErrorCode, message: RegExp): void {
  assert.throws(run, (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, message);
    return true;
  });
}

import assert from "node:assert/strict";
import {
  AppError,
  assert as assertInvariant,
  type ErrorCode,
  ErrorInfo,
  ERRORS,
  toAppError,
} from "../../core/errors.ts";

Deno.test("an error survives as data: code, message, hint and param", () => {
  const error = new AppError("conflict", "two", { hint: "one", param: "a.0" });
  const info = ErrorInfo.parse(JSON.parse(JSON.stringify(error.toInfo())));
  assert.deepEqual(info, { code: "conflict", message: "two", hint: "one", param: "a.0" });
  assert.deepEqual(AppError.from(info).toInfo(), info);
  assert.deepEqual(new AppError("internal", "x").toInfo(), { code: "internal", message: "x" });
});

Deno.test("retryable is a look-up by code", () => {
  assert.equal(new AppError("queue_full", "").retryable, true);
  assert.equal(new AppError("unauthorized", "").retryable, false);
});

Deno.test("every code has a status of an error and an exit code of the design", () => {
  for (const [code, { http, exit }] of Object.entries(ERRORS)) {
    assert.ok(http >= 400 && http < 600, code);
    assert.ok([1, 2, 3, 4, 5, 130].includes(exit), code);
    assert.equal(ErrorInfo.parse({ code, message: "" }).code, code as ErrorCode);
  }
  assert.throws(() => ErrorInfo.parse({ code: "nonsense", message: "" }));
});

Deno.test("toAppError() keeps an AppError and wraps anything else with its cause", () => {
  const own = new AppError("not_ready", "wait");
  assert.equal(toAppError(own), own);
  const cause = new TypeError("boom");
  const wrapped = toAppError(cause, "load_failed");
  assert.equal(wrapped.code, "load_failed");
  assert.equal(wrapped.message, "boom");
  assert.equal(wrapped.cause, cause);
  assert.equal(toAppError("text").message, "text");
  assert.equal(toAppError("text").code, "internal");
});

Deno.test("assert() stops on a broken invariant and names it", () => {
  assert.throws(() => assertInvariant(false, "one is two"), /Broken invariant: one is two/);
  assertInvariant(true, "fine");
});

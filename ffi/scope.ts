/** Step scopes: every tensor made while one is open is freed when it closes, in one call. */
import { check, native } from "./bind.ts";
import { countScope } from "./ownership.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Owns the tensors made until it is disposed of, except those made in a scope opened inside it.
 *
 * ```ts ignore
 * using scope = new Scope();
 * const next = scope.keep(step(token)); // Outlives the scope; all else is freed at its end.
 * ```
 */
export class Scope implements Disposable {
  readonly #depth: number;
  #open = true;

  /** Opens the scope. */
  constructor() {
    this.#depth = check("shim_scope_enter", native().shim_scope_enter());
    countScope(1);
  }

  /** Hands a tensor over to the caller, who disposes of it; returns it. */
  keep(tensor: Tensor): Tensor {
    return tensor.keep();
  }

  /**
   * Frees what was not kept.
   * @throws {NativeError} if a scope opened inside this one is still open.
   */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    check("shim_scope_leave", native().shim_scope_leave(this.#depth));
    this.#open = false;
    countScope(-1);
  }
}

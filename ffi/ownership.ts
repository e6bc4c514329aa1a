/**
 * Who frees a native array: its scope, or whoever made or kept it. For the latter a finalizer is
 * the safety net, which costs too much to have for every array of a step.
 *
 * @module
 */
import { native } from "./bind.ts";

let openScopes = 0;

// A handle that was freed meanwhile is refused by the shim, which is as good.
const forgotten = new FinalizationRegistry<number>((handle) => {
  native().shim_free(handle);
});

/** Counts a scope that was entered (1) or left (-1). */
export function countScope(change: 1 | -1): void {
  openScopes += change;
}

/** Notes a new array; outside of any scope it belongs to the caller. */
export function adopt(owner: object, handle: number): void {
  if (openScopes === 0) forgotten.register(owner, handle, owner);
}

/** Notes an array that its scope does not free any more. */
export function own(owner: object, handle: number): void {
  forgotten.unregister(owner);
  forgotten.register(owner, handle, owner);
}

/** Notes that the owner itself frees the array. */
export function disown(owner: object): void {
  forgotten.unregister(owner);
}

import type { MetaInstanceId } from "../core/ids.ts";
import { Bell } from "./bell.ts";
import type { Json } from "./encode_state.ts";
import type { Gateway } from "./gateway.ts";
import { encodeMetaInstance } from "./meta_instance_view.ts";

/** What `/meta_instances/{id}?watch=1` streams: how it fares, until it is deleted. */
export type MetaInstanceNews =
  | { readonly type: "state"; readonly metaInstance: Json }
  | { readonly type: "deleted"; readonly metaInstanceId: MetaInstanceId };

/**
 * How a meta-instance fares, at once and after each change, until it is deleted or `signal` is
 * aborted; changes that nobody took are one.
 */
export async function* watchMetaInstance(
  gateway: Gateway,
  metaInstanceId: MetaInstanceId,
  signal: AbortSignal,
): AsyncGenerator<MetaInstanceNews> {
  const changes = new Bell();
  const ring = () => changes.ring();
  const unsubscribe = gateway.onChange(ring);
  signal.addEventListener("abort", ring);
  let last = "";
  try {
    while (!signal.aborted) {
      const state = gateway.state();
      const found = state.metaInstances.get(metaInstanceId);
      if (!found) return yield { type: "deleted", metaInstanceId };
      const metaInstance = encodeMetaInstance(state, found);
      const text = JSON.stringify(metaInstance);
      if (text !== last) yield { type: "state", metaInstance };
      last = text;
      await changes.heard();
    }
  } finally {
    unsubscribe();
    signal.removeEventListener("abort", ring);
  }
}

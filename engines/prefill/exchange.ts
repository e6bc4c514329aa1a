import type { KvFingerprint } from "../../core/prefill.ts";
import type { RemotePrefillMode } from "../../core/prefill_choice.ts";
import type { KvBytes } from "./kv_bytes.ts";
import { type RemotePrefillParts, RemotePrefills } from "./remote_prefills.ts";
import { ServedPrefills } from "./served_prefills.ts";

/** How an engine shares the reading of prompts with others. */
export interface PrefillSettings {
  /** Tells whether others have the same model. */
  readonly weights: string;
  /** When prompts are read elsewhere; absent: `auto`. */
  readonly mode?: RemotePrefillMode | undefined;
}

/** Both directions in which an engine shares the reading of prompts. */
export interface PrefillExchange {
  readonly remote: RemotePrefills;
  readonly served: ServedPrefills;
}

/** Undefined where the decoder's keys and values cannot travel. */
export function prefillExchange(
  settings: PrefillSettings | undefined,
  { kv, ...parts }: Omit<RemotePrefillParts, "kv" | "fingerprint" | "mode"> & {
    readonly kv: KvBytes | undefined;
  },
): PrefillExchange | undefined {
  if (!settings || !kv) return undefined;
  const fingerprint: KvFingerprint = { weights: settings.weights, ...kv.shape };
  const { mode = "auto" } = settings;
  return {
    remote: new RemotePrefills({ ...parts, kv, fingerprint, mode }),
    served: new ServedPrefills({ kv, fingerprint }),
  };
}

import type { Tensor } from "../../ffi/mod.ts";
import type { KvCache } from "../kv_cache.ts";

/** A language model over its weights: what the text engine asks of each architecture. */
export interface TextModel {
  readonly layerCount: number;
  readonly vocabSize: number;
  /** Most positions that the model was made for. */
  readonly contextTokens: number;
  /** An empty cache for one request. */
  makeCache(): KvCache;
  /** Token ids [B, L], the next ones after those in the cache, to hidden states [B, L, D]. */
  hidden(ids: Tensor, cache: KvCache): Tensor;
  /** Hidden states [..., D] to logits [..., V]. */
  logits(hidden: Tensor): Tensor;
}

import { ChatTemplate } from "../../engines/text/chat_template.ts";
import { CpuDecoder } from "../../engines/cpu/cpu_decoder.ts";
import type { Decoder } from "../../engines/decoder.ts";
import { Follower } from "../../engines/group/follower.ts";
import { GroupDecoder, type Split } from "../../engines/group/group_decoder.ts";
import { openCheckpoint } from "../../engines/mlx/checkpoint.ts";
import { type ModelPart, WHOLE_MODEL } from "../../engines/models/part.ts";
import { TextEngine } from "../../engines/text_engine.ts";
import { TextTokenizer } from "../../engines/text/tokenizer.ts";
import { loadModel } from "../engines/golden.ts";
import type { KvBytes } from "../../engines/prefill/kv_bytes.ts";
import type { KvDtype } from "../../ffi/mod.ts";
import { changed } from "./changed.ts";
import { LocalRing } from "./local_group.ts";
import { stagesOf } from "./model_parts.ts";

/** A part of a model at work on the CPU kernels. */
function partOf(path: string, part: ModelPart, kvDtype?: KvDtype) {
  const { model, weights } = loadModel(path, { isPacked: true, part });
  return { model, weights, decoder: new CpuDecoder(model, kvDtype ? { kvDtype } : {}) };
}

/** How ranks in one thread are made. */
export interface StagesOptions {
  readonly kvDtype?: KvDtype;
  /** As a {@linkcode LocalRing} asks. */
  readonly mayPass?: () => boolean;
  /** Blocks that each rank has memory for; further ones cannot be had. */
  readonly blocksMax?: readonly number[];
  /** Ranks that keep keys and values otherwise, as MLX does beside our own kernels. */
  readonly otherwise?: readonly number[];
}

/** How a model is split: into so many layers for each rank, or the heads of all for so many. */
export type Layout = readonly number[] | { readonly slices: number };

/** A decoder that may be freed by an engine, and once more by whoever made it. */
function freedOnce<T extends Disposable>(decoder: T): T {
  let isFreed = false;
  const free = () => {
    if (!isFreed) decoder[Symbol.dispose]();
    isFreed = true;
  };
  return changed<Disposable>(decoder, { [Symbol.dispose]: free }) as T;
}

/** A real model over ranks, all in one thread. */
export class ModelStages implements Disposable {
  readonly decoder: GroupDecoder;
  /** By rank. */
  readonly parts: readonly Decoder[];
  readonly #ring: LocalRing;
  readonly #loaded: readonly ReturnType<typeof partOf>[];
  readonly #followers: readonly Follower[];

  /** Slices compute no steps in one thread, where each would wait for the others within them. */
  constructor(
    path: string,
    layout: Layout,
    { kvDtype, mayPass, blocksMax = [], otherwise = [] }: StagesOptions = {},
  ) {
    const parts = partsOf(layout);
    this.#ring = new LocalRing(parts.length, mayPass);
    this.#loaded = parts.map((part) => partOf(path, part, kvDtype));
    const ranks = this.#ring.groups.map((group, rank) => {
      const own = this.#loaded[rank];
      if (!own) throw new Error("each rank has a part");
      const kept = limited(own.decoder, blocksMax[rank]);
      const part = otherwise.includes(rank) ? changed(kept, { kvBytes: undefined }) : kept;
      const of = parts[rank];
      const firstLayer = of?.type === "stage" ? of.startLayer : 0;
      return { group, part, model: own.model, firstLayer };
    });
    this.parts = ranks.map(({ part }) => part);
    const [first, ...others] = ranks;
    if (!first) throw new Error("there is a first rank");
    const common: { split: Split; fingerprint: string; now: () => number } = {
      split: "slices" in layout ? "tensor" : "pipeline",
      fingerprint: "w",
      now: () => 0,
    };
    const { wholeKvLayers: kvLayers } = first.model;
    this.decoder = freedOnce(new GroupDecoder({ ...first, ...common, kvLayers }));
    this.#followers = others.map(({ group, part, model: { hiddenSize }, firstLayer }) => {
      const follower = new Follower({
        ...{ ...common, group, part, hiddenSize, firstLayer, weights: NO_WEIGHTS },
        kvBudgetBytes: () => Infinity,
      });
      this.#ring.follow(group.rank, () => {
        if (!follower.hasWork()) return false;
        for (const _ of follower.step());
        return true;
      });
      return follower;
    });
    this.decoder.askAll().collect();
  }

  /** Bytes of keys and values on each rank, once they have done what they were told. */
  get cacheBytes(): number[] {
    this.decoder.flush();
    while (this.#ring.moveOne());
    return this.#loaded.map(({ decoder }) => decoder.cacheBytes);
  }

  /** From now on the ranks are without this one. */
  breakBy(rank: number): void {
    this.#ring.breakBy(rank);
  }

  /** Caches and shares that the other ranks hold once they have done what they were told. */
  get held(): number {
    this.decoder.flush();
    while (this.#ring.moveOne());
    return this.#followers.reduce((sum, { held }) => sum + held, 0);
  }

  [Symbol.dispose](): void {
    this.decoder[Symbol.dispose]();
    for (const follower of this.#followers) follower.close();
    for (const { weights } of this.#loaded) weights[Symbol.dispose]();
  }
}

function partsOf(layout: Layout): ModelPart[] {
  if (!("slices" in layout)) return stagesOf(layout);
  const { slices: size } = layout;
  return Array.from({ length: size }, (_, rank) => ({ type: "slice", rank, size, sum: (x) => x }));
}

/** A decoder that takes no more blocks for what comes from elsewhere than it is told. */
function limited(decoder: CpuDecoder, blocksMax = Infinity): Decoder {
  const { kvBytes } = decoder;
  if (!kvBytes || blocksMax === Infinity) return decoder;
  const blockBytes = decoder.makeCache().bytesFor(decoder.blockPositions);
  const reserve: KvBytes["reserve"] = (cache, count) => {
    if (decoder.cacheBytes / blockBytes + count > blocksMax) throw new Error("no memory");
    kvBytes.reserve(cache, count);
  };
  return changed(decoder, { kvBytes: changed(kvBytes, { reserve }) });
}

/** A real model in one part. */
export class WholeModel implements Disposable {
  readonly decoder: CpuDecoder;
  readonly #weights: Disposable;

  constructor(path: string, kvDtype?: KvDtype) {
    const { decoder, weights } = partOf(path, WHOLE_MODEL, kvDtype);
    this.decoder = freedOnce(decoder);
    this.#weights = weights;
  }

  [Symbol.dispose](): void {
    this.decoder[Symbol.dispose]();
    this.#weights[Symbol.dispose]();
  }
}

/** The engine over a decoder of a model; its clock counts the looks at it. */
export function engineOver(
  path: string,
  decoder: Decoder,
  options: Partial<ConstructorParameters<typeof TextEngine>[0]> = {},
): TextEngine {
  const { tokenizer: files, config } = openCheckpoint(path);
  const tokenizer = new TextTokenizer(files);
  let ms = 0;
  return new TextEngine({
    ...{ vocabSize: Number(config["vocab_size"]), decoder, tokenizer, weights: NO_WEIGHTS },
    template: new ChatTemplate(tokenizer.chatTemplate ?? ""),
    ...{ eosIds: new Set(), contextTokens: 512, samplingDefaults: [] },
    ...{ runningMax: 4, prefillChunkTokens: 32, kvBudgetBytes: 2 ** 30 },
    now: () => ms++,
    ...options,
  });
}

/** Whoever loaded them frees them. */
const NO_WEIGHTS = { [Symbol.dispose]: () => {} };

import { type EngineLimits, engineLimits } from "../core/engine_limits.ts";
import { AppError, assert } from "../core/errors.ts";
import type { GroupSpec } from "../core/group.ts";
import type { ModelCard } from "../core/model_card.ts";
import { asksForTraces } from "../core/trace.ts";
import { formatBytes } from "../core/units.ts";
import { samplingFromGenerationConfig } from "../core/safetensors.ts";
import type { SamplingParams } from "../core/sampling.ts";
import { turnEventLoop } from "../ffi/mod.ts";
import { type Decoder, decoderOf, usesCpuKernels } from "./decoder.ts";
import type { BoundModel, Builder, Engine, LoadProgress } from "./engine.ts";
import { Follower, type FollowerParts } from "./group/follower.ts";
import type { Group } from "./group.ts";
import { GroupDecoder } from "./group/group_decoder.ts";
import { heldBack, meetLoaded, partIn, splitOf } from "./group/ranks.ts";
import { SocketGroup } from "./group/socket_group.ts";
import { KvMemory } from "./kv_memory.ts";
import { type Checkpoint, openCheckpoint } from "./mlx/checkpoint.ts";
import { loadWeights, openWeights } from "./mlx/loader.ts";
import { MlxGroup } from "./mlx/mlx_group.ts";
import type { Weights } from "./mlx/weights.ts";
import { buildModel } from "./models/mod.ts";
import type { TextModel } from "./models/text_model.ts";
import { weightsFingerprint } from "./prefill/fingerprint.ts";
import { SpareMemory } from "./spare_memory.ts";
import { TextEngine, type TextEngineParts } from "./text_engine.ts";
import { ChatTemplate } from "./text/chat_template.ts";
import { fileName } from "./text/files.ts";
import type { Tracing } from "./text/task_trace.ts";
import { TextTokenizer } from "./text/tokenizer.ts";

/** What a {@linkcode TextBuilder} may be given. */
export interface TextBuilderOptions {
  /** Milliseconds on a steady clock; tests bring their own. */
  readonly now?: () => number;
  /** Environment variables; the process's own unless a test brings others. */
  readonly env?: (name: string) => string | undefined;
  /** Meets the other ranks; {@linkcode joinGroup} unless a test listens already. */
  readonly join?: (spec: GroupSpec) => Promise<Group>;
  /** Whether our own kernels compute; else MLX does. As the device wants it, unless a test says. */
  readonly isPacked?: boolean;
  /** What `now` counts from, in milliseconds since 1970: where tracing puts its spans. */
  readonly originMs?: number;
}

/** Generations computed at once where neither the instance nor the environment says. */
const RUNNING_MAX_DEFAULT = 16;

/** Share of the memory that is free once the weights are there which keys and values may take. */
const KV_SHARE = 0.8;

/** Fewest tokens of a context that is of any use. */
const CONTEXT_TOKENS_MIN = 32;

/** Most prompt tokens in a step where the instance does not say. */
const PREFILL_CHUNK_DEFAULT = 512;

/** What `build` makes an engine of: on the first rank, or the only one, and on the others. */
type Loaded =
  | { readonly type: "first"; readonly parts: TextEngineParts }
  | { readonly type: "other"; readonly parts: FollowerParts };

/**
 * Brings a language model, or a rank's part of it, into memory: a GGUF file or a Hugging Face
 * folder, over MLX.
 */
export class TextBuilder implements Builder {
  readonly #now: () => number;
  readonly #env: (name: string) => string | undefined;
  readonly #originMs: number;
  readonly #join: (spec: GroupSpec) => Promise<Group>;
  readonly #isPacked: () => boolean;
  #group: Group | undefined;
  #loaded: Loaded | undefined;

  constructor(options: TextBuilderOptions = {}) {
    this.#now = options.now ?? (() => performance.now());
    this.#originMs = options.originMs ?? performance.timeOrigin;
    this.#env = options.env ?? ((name) => Deno.env.get(name));
    this.#join = options.join ?? joinGroup;
    this.#isPacked = () => options.isPacked ?? usesCpuKernels();
  }

  async connect(spec: GroupSpec): Promise<void> {
    this.#group?.[Symbol.dispose]();
    this.#group = undefined;
    this.#group = await this.#join(spec);
  }

  breathe(): Promise<void> {
    return turnEventLoop();
  }

  /**
   * @throws {AppError} `load_failed`, `corrupt_model`, `unsupported_model` or `group_broken`; what
   * was loaded by then is freed.
   */
  *load(model: BoundModel): Generator<LoadProgress, void> {
    this.#free();
    const file = fileName(model.modelPath);
    try {
      this.#loaded = yield* this.#parts(model);
    } catch (error) {
      if (error instanceof AppError) throw error;
      const found = error instanceof Error ? error.message : String(error);
      const hint = "if memory is short, end other programs; else fetch the model's files again";
      // The functions of the shim are ours to know.
      const why = found.replace(/^Cannot run shim_\w+: /, "");
      throw new AppError("load_failed", `Cannot load "${file}": ${why}`, { hint, cause: error });
    }
  }

  *#parts(bound: BoundModel): Generator<LoadProgress, Loaded, void> {
    const { shard, modelPath, config } = bound;
    const checkpoint = openCheckpoint(modelPath);
    if (shard.worldSize === 1) requireWholeModel(bound, checkpoint);
    const group = shard.worldSize > 1 ? this.#group : undefined;
    const part = partIn(shard, group);
    const isPacked = this.#isPacked();
    using opened = openWeights(checkpoint, part, isPacked);
    // While weights are read in the background; one that we cannot build makes them pointless.
    const words = shard.deviceRank === 0 ? wordsOf(checkpoint) : undefined;
    const loading = loadWeights(checkpoint, part, { isPacked, opened });
    // Freed in this order, the decoder first, unless all of it is put together.
    using owned = new DisposableStack();
    const weights = owned.use(yield* words && group ? heldBack(loading) : loading);
    const model = buildModel(checkpoint.config, weights, part);
    const own = owned.use(decoderOf(model, weights.isPacked, config));
    const limits = engineLimits(this.#env);
    const made = { model, weights, limits, now: this.#now };
    const fingerprint = weightsFingerprint(modelPath);
    if (!words) {
      assert(group, "there is a rank that is not the first in a group");
      const split = splitOf(shard);
      const { startLayer: firstLayer } = shard;
      const parts = otherRank({ ...made, group, part: own, fingerprint, split, firstLayer });
      owned.move();
      return { type: "other", parts };
    }
    const decoder = group && new GroupDecoder({
      ...{ group, part: own, split: splitOf(shard), fingerprint, now: this.#now },
      kvLayers: model.wholeKvLayers,
    });
    if (decoder) yield* meetLoaded(decoder, shard.endLayer - shard.startLayer);
    const parts = assemble(bound, { ...made, ...words, checkpoint, decoder: decoder ?? own });
    owned.move();
    const prefill = { weights: fingerprint, mode: limits.remotePrefill };
    return { type: "first", parts: { ...parts, prefill, tracing: this.#tracing(bound) } };
  }

  #tracing({ shard }: BoundModel): Tracing | undefined {
    if (asksForTraces(this.#env("EXO_TRACING_ENABLED")) !== true) return undefined;
    return { rank: shard.deviceRank, originMs: this.#originMs };
  }

  build(): Engine {
    const loaded = this.#loaded;
    assert(loaded, "build() comes after load()");
    this.#loaded = undefined; // The engine frees the weights from now on.
    return loaded.type === "first" ? new TextEngine(loaded.parts) : new Follower(loaded.parts);
  }

  #free(): void {
    const { parts } = this.#loaded ?? {};
    if (parts) ("decoder" in parts ? parts.decoder : parts.part)[Symbol.dispose]();
    parts?.weights[Symbol.dispose]();
    this.#loaded = undefined;
  }

  /** Leaves the other ranks, too: without this one they end. */
  close(): void {
    this.#free();
    this.#group?.[Symbol.dispose]();
    this.#group = undefined;
  }
}

/** Meets the other ranks over what the instance was placed on. */
function joinGroup(spec: GroupSpec): Promise<Group> {
  return spec.link.type === "jaccl" ? MlxGroup.join(spec) : SocketGroup.join(spec);
}

/** What only the rank needs to which people speak. */
function wordsOf(
  checkpoint: Checkpoint,
): { tokenizer: TextTokenizer; template: ChatTemplate | undefined } {
  const tokenizer = new TextTokenizer(checkpoint.tokenizer);
  return { tokenizer, template: templateOf(tokenizer) };
}

/** Memory for keys and values: a share of what is free now, as long as the system has it. */
function kvMemory({ limits, now }: { limits: EngineLimits; now: () => number }) {
  const spare = new SpareMemory({ now });
  const budgetBytes = Math.min(
    limits.kvCacheBytes ?? Infinity,
    Math.floor(KV_SHARE * Math.max(0, spare.bytes())),
  );
  return { budgetBytes, spareBytes: () => spare.bytes() };
}

function otherRank(
  { model, limits, now, ...parts }: Omit<FollowerParts, "hiddenSize" | "kvBudgetBytes"> & {
    model: TextModel;
    limits: EngineLimits;
  },
): FollowerParts {
  const { budgetBytes, spareBytes } = kvMemory({ limits, now });
  return {
    ...parts,
    ...{ hiddenSize: model.hiddenSize, now },
    kvBudgetBytes: () => Math.min(budgetBytes, parts.part.cacheBytes + spareBytes()),
  };
}

/** All layers are what this rank must hold. */
function requireWholeModel({ shard }: BoundModel, checkpoint: Checkpoint): void {
  const layers = Number(checkpoint.config["num_hidden_layers"]);
  if (shard.startLayer === 0 && shard.endLayer === layers) return;
  throw new AppError(
    "load_failed",
    `Cannot load layers ${shard.startLayer} to ${shard.endLayer} of ${layers}: ` +
      `all ${layers} needed, this engine runs whole models`,
    { hint: "place it on one node: exo instance create MODEL" },
  );
}

function templateOf(
  { bosToken, eosToken, chatTemplate }: TextTokenizer,
): ChatTemplate | undefined {
  if (chatTemplate === undefined) return undefined;
  return new ChatTemplate(chatTemplate, { bosToken, eosToken });
}

function assemble(
  { shard: { modelCard }, config }: BoundModel,
  loaded: {
    checkpoint: Checkpoint;
    model: TextModel;
    tokenizer: TextTokenizer;
    template: ChatTemplate | undefined;
    weights: Weights;
    /** Of this rank alone, or of all. */
    decoder: Decoder;
    now: () => number;
    limits: EngineLimits;
  },
): TextEngineParts {
  const { checkpoint, model, tokenizer, template, weights, decoder, now, limits } = loaded;
  const { eosToken } = tokenizer;
  const eosId = eosToken === undefined ? undefined : tokenizer.idOf(eosToken);
  const samplingDefaults = samplingLayers(config.samplingDefaults, modelCard, checkpoint);
  const { budgetBytes, spareBytes } = kvMemory({ limits, now });
  // Of several ranks, the one with the least memory decides.
  const ofAll = () => decoder instanceof GroupDecoder ? decoder.spareBytes : Infinity;
  const kvBudgetBytes = Math.min(budgetBytes, decoder.cacheBytes + ofAll());
  const wanted = Math.min(model.contextTokens, config.contextTokens ?? Infinity);
  const contextTokens = contextWithin(kvBudgetBytes, { wanted, decoder });
  return {
    vocabSize: model.vocabSize,
    decoder,
    weights,
    tokenizer,
    template,
    eosIds: new Set([
      ...checkpoint.eosIds,
      ...(modelCard.eosTokenIds ?? []),
      ...(eosId === undefined ? [] : [eosId]),
    ]),
    contextTokens,
    samplingDefaults,
    runningMax: config.maxConcurrentRequests ?? limits.runningMax ?? RUNNING_MAX_DEFAULT,
    prefillChunkTokens: config.prefillChunkTokens ?? PREFILL_CHUNK_DEFAULT,
    kvBudgetBytes,
    ...(limits.prefixCacheBytes === undefined ? {} : { prefixCacheBytes: limits.prefixCacheBytes }),
    spareBytes: () => Math.min(spareBytes(), ofAll()),
    now,
  };
}

/**
 * As many of the tokens that are `wanted` as there is memory for.
 * @throws {AppError} `load_failed` when it is too little for any answer.
 */
function contextWithin(
  kvBudgetBytes: number,
  { wanted, decoder }: { wanted: number; decoder: Decoder },
): number {
  using memory = new KvMemory({ decoder, kvBudgetBytes });
  const tokens = memory.tokensOfOne(wanted);
  const least = Math.min(CONTEXT_TOKENS_MIN, wanted);
  if (tokens >= least) return tokens;
  const needed = formatBytes(memory.bytesOf(least));
  throw new AppError(
    "load_failed",
    `Cannot serve the model: ${formatBytes(kvBudgetBytes)} are left for keys and values, ` +
      `${needed} needed for a context of ${least} tokens`,
    { hint: "end other programs on the node, or raise EXO_KV_CACHE_BYTES if it is set" },
  );
}

/** Defaults after the request's own wishes: instance, card, generation config. */
function samplingLayers(
  instance: SamplingParams | undefined,
  card: ModelCard,
  checkpoint: Checkpoint,
): (SamplingParams | undefined)[] {
  const own = samplingFromGenerationConfig(checkpoint.generationConfig);
  return [instance, card.samplingDefaults, own];
}

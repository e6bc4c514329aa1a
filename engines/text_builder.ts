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
import { KvMemory } from "./kv_memory.ts";
import { type Checkpoint, openCheckpoint } from "./mlx/checkpoint.ts";
import { loadWeights, openWeights } from "./mlx/loader.ts";
import type { Weights } from "./mlx/weights.ts";
import { buildModel } from "./models/mod.ts";
import { WHOLE_MODEL } from "./models/part.ts";
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

/** Brings a language model into memory: a GGUF file or a Hugging Face folder, over MLX. */
export class TextBuilder implements Builder {
  readonly #now: () => number;
  readonly #env: (name: string) => string | undefined;
  readonly #originMs: number;
  #parts: TextEngineParts | undefined;

  constructor(options: TextBuilderOptions = {}) {
    this.#now = options.now ?? (() => performance.now());
    this.#originMs = options.originMs ?? performance.timeOrigin;
    this.#env = options.env ?? ((name) => Deno.env.get(name));
  }

  connect(_spec: GroupSpec): Promise<void> {
    const message = "Cannot join a group: this engine runs whole models";
    return Promise.reject(new AppError("group_broken", message));
  }

  breathe(): Promise<void> {
    return turnEventLoop();
  }

  /**
   * @throws {AppError} `load_failed`, `corrupt_model` or `unsupported_model`; what was loaded by
   * then is freed.
   */
  *load(model: BoundModel): Generator<LoadProgress, void> {
    this.close();
    const file = fileName(model.modelPath);
    try {
      const checkpoint = openCheckpoint(model.modelPath);
      requireWholeModel(model, checkpoint);
      const isPacked = usesCpuKernels();
      using opened = openWeights(checkpoint, WHOLE_MODEL, isPacked);
      // While weights are read in the background; one that we cannot build makes them pointless.
      const tokenizer = new TextTokenizer(checkpoint.tokenizer);
      const template = templateOf(tokenizer);
      const weights = yield* loadWeights(checkpoint, WHOLE_MODEL, { isPacked, opened });
      const parts = assemble(model, {
        ...{ checkpoint, tokenizer, template, weights, now: this.#now },
        limits: engineLimits(this.#env),
      });
      this.#parts = { ...parts, tracing: this.#tracing(model) };
    } catch (error) {
      if (error instanceof AppError) throw error;
      const found = error instanceof Error ? error.message : String(error);
      const hint = "if memory is short, end other programs; else fetch the model's files again";
      // The functions of the shim are ours to know.
      const why = found.replace(/^Cannot run shim_\w+: /, "");
      throw new AppError("load_failed", `Cannot load "${file}": ${why}`, { hint, cause: error });
    }
  }

  #tracing({ shard }: BoundModel): Tracing | undefined {
    if (asksForTraces(this.#env("EXO_TRACING_ENABLED")) !== true) return undefined;
    return { rank: shard.deviceRank, originMs: this.#originMs };
  }

  build(): Engine {
    const parts = this.#parts;
    assert(parts, "build() comes after load()");
    this.#parts = undefined; // The engine frees the weights from now on.
    return new TextEngine(parts);
  }

  close(): void {
    this.#parts?.decoder[Symbol.dispose]();
    this.#parts?.weights[Symbol.dispose]();
    this.#parts = undefined;
  }
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
    tokenizer: TextTokenizer;
    template: ChatTemplate | undefined;
    weights: Weights;
    now: () => number;
    limits: EngineLimits;
  },
): TextEngineParts {
  const { checkpoint, tokenizer, template, weights, now, limits } = loaded;
  // Freed in this order, the decoder first, unless all of it is put together.
  using parts = new DisposableStack();
  parts.use(weights);
  const model = buildModel(checkpoint.config, weights);
  const decoder = parts.use(decoderOf(model, weights.isPacked, config));
  const { eosToken } = tokenizer;
  const eosId = eosToken === undefined ? undefined : tokenizer.idOf(eosToken);
  const samplingDefaults = samplingLayers(config.samplingDefaults, modelCard, checkpoint);
  const spare = new SpareMemory({ now });
  const kvBudgetBytes = Math.min(
    limits.kvCacheBytes ?? Infinity,
    Math.floor(KV_SHARE * Math.max(0, spare.bytes())),
  );
  const wanted = Math.min(model.contextTokens, config.contextTokens ?? Infinity);
  const contextTokens = contextWithin(kvBudgetBytes, { wanted, decoder });
  parts.move();
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
    spareBytes: () => spare.bytes(),
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

import { ChatTemplate } from "../../engines/text/chat_template.ts";
import { CpuDecoder } from "../../engines/cpu/cpu_decoder.ts";
import type { Decoder } from "../../engines/decoder.ts";
import { Follower } from "../../engines/group/follower.ts";
import { GroupDecoder } from "../../engines/group/group_decoder.ts";
import { openCheckpoint } from "../../engines/mlx/checkpoint.ts";
import { type ModelPart, WHOLE_MODEL } from "../../engines/models/part.ts";
import { TextEngine } from "../../engines/text_engine.ts";
import { TextTokenizer } from "../../engines/text/tokenizer.ts";
import { loadModel } from "../engines/golden.ts";
import { LocalRing } from "./local_group.ts";
import { stagesOf } from "./model_parts.ts";

/** A part of a model at work on the CPU kernels. */
function partOf(path: string, part: ModelPart) {
  const { model, weights } = loadModel(path, { isPacked: true, part });
  return { model, weights, decoder: new CpuDecoder(model) };
}

/** A real model over the ranks of a pipeline, all in one thread; an engine frees the decoder. */
export class ModelStages implements Disposable {
  readonly decoder: GroupDecoder;
  readonly #ring: LocalRing;
  readonly #parts: readonly ReturnType<typeof partOf>[];
  readonly #followers: readonly Follower[];

  /** `layers`: how many each rank has. */
  constructor(path: string, layers: readonly number[]) {
    this.#ring = new LocalRing(layers.length);
    this.#parts = stagesOf(layers).map((stage) => partOf(path, stage));
    const ranks = this.#ring.groups.map((group, rank) => {
      const own = this.#parts[rank];
      if (!own) throw new Error("each rank has a part");
      return { group, part: own.decoder, model: own.model };
    });
    const [first, ...others] = ranks;
    if (!first) throw new Error("there is a first rank");
    const common = { split: "pipeline" as const, now: () => 0 };
    this.decoder = new GroupDecoder({ ...first, ...common });
    this.#followers = others.map(({ group, part, model: { hiddenSize } }) => {
      const follower = new Follower({
        ...{ ...common, group, part, hiddenSize, weights: NO_WEIGHTS },
        kvBudgetBytes: () => Infinity,
      });
      this.#ring.follow(group.rank, () => {
        if (!follower.hasWork()) return false;
        for (const _ of follower.step());
        return true;
      });
      return follower;
    });
  }

  /** Caches and shares that the other ranks hold once they have done what they were told. */
  get held(): number {
    this.decoder.flush();
    while (this.#ring.moveOne());
    return this.#followers.reduce((sum, { held }) => sum + held, 0);
  }

  [Symbol.dispose](): void {
    for (const follower of this.#followers) follower.close();
    for (const { weights } of this.#parts) weights[Symbol.dispose]();
  }
}

/** A real model in one part; an engine frees the decoder. */
export class WholeModel implements Disposable {
  readonly #part: ReturnType<typeof partOf>;

  constructor(path: string) {
    this.#part = partOf(path, WHOLE_MODEL);
  }

  get decoder(): Decoder {
    return this.#part.decoder;
  }

  [Symbol.dispose](): void {
    this.#part.weights[Symbol.dispose]();
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

import { isFolder } from "../text/files.ts";
import type { TokenizerSource } from "../text/tokenizer.ts";
import { openFolder } from "./folder_checkpoint.ts";
import { openGguf } from "./gguf_checkpoint.ts";
import type { WeightCuts } from "./weight_cuts.ts";
import type { WeightSource } from "./weight_source.ts";
import type { Quantization } from "./weights.ts";
import type { Wording } from "./wording.ts";

/** A model on disk, its headers read and checked, its weights not yet. */
export interface Checkpoint {
  /** As in `config.json`; rebuilt from its metadata for a GGUF. */
  readonly config: Readonly<Record<string, unknown>>;
  /** `generation_config.json`, parsed; undefined where there is none. */
  readonly generationConfig: unknown;
  /** Made at each look; it takes a while. */
  readonly tokenizer: TokenizerSource;
  /** Tokens after which an answer is complete. */
  readonly eosIds: readonly number[];
  quantizationOf(path: string): Quantization | undefined;
  /** What messages call its parts. */
  readonly wording: Wording;
  /**
   * Consecutive inputs of the matrix `path.weight` that share a scale, as it is read for the CPU
   * kernels or for MLX; 1 where none do. A cut of its inputs must fall between them.
   */
  groupOf(path: string, isPacked: boolean): number;
  /**
   * The weights that `cuts` have a part of, packed for the CPU kernels or as MLX reads them. As many
   * as the headers name, or it throws. Work on them may begin at once, in the background.
   */
  openWeights(isPacked: boolean, cuts: WeightCuts): WeightSource;
}

/**
 * Opens a GGUF file or a Hugging Face folder.
 * @throws {AppError} `load_failed`, `corrupt_model` or `unsupported_model`.
 */
export function openCheckpoint(path: string): Checkpoint {
  return isFolder(path) ? openFolder(path) : openGguf(path);
}

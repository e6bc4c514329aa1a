import { PackedMatrix, type QuantizeMode, type Tensor } from "../../ffi/mod.ts";
import { AppError } from "../../core/errors.ts";
import { type Cut, type WeightCuts, WHOLE } from "./weight_cuts.ts";
import { FOLDER_WORDING, type Wording } from "./wording.ts";

/** How the weight of one linear is quantised. */
export interface Quantization {
  readonly groupSize: number;
  readonly bits: number;
  readonly mode: QuantizeMode;
}

/** What {@linkcode Weights} are. */
export interface WeightsOptions {
  /** Whether matrices are packed for the CPU kernels. */
  readonly isPacked?: boolean;
  readonly quantizationOf?: (path: string) => Quantization | undefined;
  /** What part of a model they are; by default they are those of a whole one. */
  readonly cuts?: WeightCuts;
  /** What messages call them and their settings; by default as in a folder. */
  readonly wording?: Wording;
}

/**
 * The weights of a model in memory, by their Hugging Face names. They belong to it, as does what is
 * made from them: all is freed with it.
 */
export class Weights implements Disposable {
  readonly isPacked: boolean;
  readonly wording: Wording;
  readonly #all = new Map<string, Tensor | PackedMatrix>();
  readonly #cuts: WeightCuts | undefined;
  readonly #quantizationOf: (path: string) => Quantization | undefined;
  readonly #unused = new Set<string>();
  readonly #derived: Disposable[] = [];

  constructor(options: WeightsOptions = {}) {
    const { isPacked = false, quantizationOf = () => undefined, wording = FOLDER_WORDING } =
      options;
    this.isPacked = isPacked;
    this.wording = wording;
    this.#cuts = options.cuts;
    this.#quantizationOf = quantizationOf;
  }

  /** Takes over a weight. */
  add(name: string, weight: Tensor | PackedMatrix): void {
    this.#all.set(name, weight);
    this.#unused.add(name);
  }

  /** What of the tensor of that name these are. */
  cutOf(name: string): Cut {
    return this.#cuts?.of(name) ?? WHOLE;
  }

  has(name: string): boolean {
    return this.#all.has(name);
  }

  /**
   * The tensor of that name, which counts as used.
   * @throws {AppError} `corrupt_model` when there is none, or not of that shape.
   */
  take(name: string, shape?: readonly number[]): Tensor {
    const tensor = this.optional(name);
    if (!tensor) throw this.#missing(name);
    if (shape && tensor.shape.join() !== shape.join()) {
      throw this.#misshapen(name, tensor.shape, shape);
    }
    return tensor;
  }

  /** The tensor of that name, which counts as used; undefined when there is none. */
  optional(name: string): Tensor | undefined {
    this.#unused.delete(name);
    const found = this.#all.get(name);
    if (found instanceof PackedMatrix) {
      throw this.#misshapen(name, [found.outputs, found.inputs], []);
    }
    return found;
  }

  /**
   * The packed matrix of that name, which counts as used.
   * @throws {AppError} `corrupt_model` when there is none, or not of that shape.
   */
  takeMatrix(name: string, { outputs, inputs }: Record<"outputs" | "inputs", number>) {
    this.#unused.delete(name);
    const found = this.#all.get(name);
    if (!found) throw this.#missing(name);
    const needed = [outputs, inputs];
    if (!(found instanceof PackedMatrix)) throw this.#misshapen(name, found.shape, needed);
    const shape = [found.outputs, found.inputs];
    if (shape.join() !== needed.join()) throw this.#misshapen(name, shape, needed);
    return found;
  }

  /** How `path.weight` is quantised; undefined when it is not. */
  quantizationOf(path: string): Quantization | undefined {
    return this.has(`${path}.scales`) ? this.#quantizationOf(path) : undefined;
  }

  /** Keeps a tensor made from weights for as long as they live. */
  own(tensor: Tensor): Tensor {
    this.#derived.push(tensor.keep());
    return tensor;
  }

  /** Keeps what was made from weights outside of MLX for as long as they live. */
  ownNative<T extends Disposable>(made: T): T {
    this.#derived.push(made);
    return made;
  }

  /** Frees what a checkpoint may hold though its model has no use for it. */
  drop(isUseless: (name: string) => boolean): void {
    for (const name of [...this.#unused].filter(isUseless)) {
      this.#all.get(name)?.[Symbol.dispose]();
      this.#all.delete(name);
      this.#unused.delete(name);
    }
  }

  /** Refuses a checkpoint of which a part would be ignored: such a model would say nonsense. */
  requireAllUsed(): void {
    const [first] = this.#unused;
    if (first === undefined) return;
    const { noun, tensor } = this.wording;
    throw new AppError(
      "unsupported_model",
      `Cannot build the model: found tensors without a place in it, such as "${tensor(first)}" ` +
        `(${this.#unused.size} in all), none needed`,
      { hint: `choose a ${noun} of the text model alone, without adapters, experts or vision` },
    );
  }

  [Symbol.dispose](): void {
    for (const made of [...this.#derived, ...this.#all.values()]) made[Symbol.dispose]();
    this.#derived.length = 0;
    this.#all.clear();
  }

  #missing(name: string): AppError {
    return this.#mixed(`no tensor "${this.wording.tensor(name)}" found, one needed`);
  }

  #misshapen(name: string, shape: readonly number[], needed: readonly number[]): AppError {
    return this.#mixed(`tensor "${this.wording.tensor(name)}" is [${shape}], [${needed}] needed`);
  }

  #mixed(found: string): AppError {
    const message = `Cannot build the model: ${found}`;
    return new AppError("corrupt_model", message, { hint: this.wording.mixed });
  }
}

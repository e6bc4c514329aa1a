import type { QuantizeMode, Tensor } from "../../ffi/mod.ts";
import { AppError } from "../../core/errors.ts";

/** How the weight of one linear is quantised. */
export interface Quantization {
  readonly groupSize: number;
  readonly bits: number;
  readonly mode: QuantizeMode;
}

const MIXED = "weights and config are of two models, or damaged; fetch both again";

/**
 * The weights of a model in memory, by their Hugging Face names. They belong to it, as do tensors
 * made from them: all are freed with it.
 */
export class Weights implements Disposable {
  readonly #tensors: Map<string, Tensor>;
  readonly #quantization: (path: string) => Quantization | undefined;
  readonly #unused: Set<string>;
  readonly #derived: Tensor[] = [];

  constructor(
    tensors: Map<string, Tensor>,
    quantization: (path: string) => Quantization | undefined = () => undefined,
  ) {
    this.#tensors = tensors;
    this.#quantization = quantization;
    this.#unused = new Set(tensors.keys());
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /**
   * The tensor of that name, which counts as used.
   * @throws {AppError} `corrupt_model` when there is none, or not of that shape.
   */
  take(name: string, shape?: readonly number[]): Tensor {
    const tensor = this.optional(name);
    if (!tensor) {
      const message = `Cannot build the model: no tensor "${name}" found, one needed`;
      throw new AppError("corrupt_model", message, { hint: MIXED });
    }
    if (shape && tensor.shape.join() !== shape.join()) {
      throw new AppError(
        "corrupt_model",
        `Cannot build the model: tensor "${name}" is [${tensor.shape}], [${shape}] needed`,
        { hint: MIXED },
      );
    }
    return tensor;
  }

  /** The tensor of that name, which counts as used; undefined when there is none. */
  optional(name: string): Tensor | undefined {
    this.#unused.delete(name);
    return this.#tensors.get(name);
  }

  /** How `path.weight` is quantised; undefined when it is not. */
  quantizationOf(path: string): Quantization | undefined {
    return this.has(`${path}.scales`) ? this.#quantization(path) : undefined;
  }

  /** Keeps a tensor made from weights for as long as they live. */
  own(tensor: Tensor): Tensor {
    this.#derived.push(tensor.keep());
    return tensor;
  }

  /** Frees what a checkpoint may hold though its model has no use for it. */
  drop(isUseless: (name: string) => boolean): void {
    for (const name of [...this.#unused].filter(isUseless)) {
      this.#tensors.get(name)?.[Symbol.dispose]();
      this.#tensors.delete(name);
      this.#unused.delete(name);
    }
  }

  /** Refuses a checkpoint of which a part would be ignored: such a model would say nonsense. */
  requireAllUsed(): void {
    const [first] = this.#unused;
    if (first === undefined) return;
    throw new AppError(
      "unsupported_model",
      `Cannot build the model: ${this.#unused.size} tensors such as "${first}" have no place in it`,
      { hint: "choose a checkpoint without parts that this version does not run" },
    );
  }

  [Symbol.dispose](): void {
    for (const tensor of [...this.#derived, ...this.#tensors.values()]) tensor[Symbol.dispose]();
    this.#derived.length = 0;
    this.#tensors.clear();
  }
}

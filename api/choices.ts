import { type Chunk, isTerminal } from "../core/chunk.ts";
import { toAppError } from "../core/errors.ts";
import type { CommandId, ModelId } from "../core/ids.ts";
import type { TextGenerationPayload } from "../core/task.ts";
import type { Gateway } from "./gateway.ts";

/** Most answers that one request may ask for. */
export const CHOICES_MAX = 16;

/** A chunk of one of the answers to a request, counted from 0. */
export interface ChoiceChunk {
  readonly index: number;
  readonly chunk: Chunk;
}

/** Answers to one prompt, each accepted by its runner. */
export interface Choices {
  readonly commandIds: readonly CommandId[];
  /** What each yields, as it comes; leaving the loop early cancels all that have not ended. */
  readonly chunks: AsyncIterable<ChoiceChunk>;
}

/** How many answers to what. */
export interface ChoicesRequest {
  readonly modelId: ModelId;
  readonly payload: TextGenerationPayload;
  readonly count: number;
  /** Aborted: the client is gone. */
  readonly signal: AbortSignal;
}

/**
 * Starts `count` generations of one prompt, the i-th with the seed plus i (design, rulings);
 * resolves when all are accepted.
 * @throws {AppError} the first refusal; the others are cancelled then.
 */
export async function generateChoices(
  gateway: Pick<Gateway, "generate">,
  { modelId, payload, count, signal }: ChoicesRequest,
): Promise<Choices> {
  const group = new AbortController();
  const cancel = () => group.abort();
  const either = AbortSignal.any([signal, group.signal]);
  try {
    const generations = await Promise.all(Array.from({ length: count }, (_, index) => {
      const seed = seedOf(payload.seed, index);
      return gateway.generate(modelId, { ...payload, seed }, either);
    }));
    return {
      commandIds: generations.map(({ commandId }) => commandId),
      chunks: merged(generations.map(({ chunks }) => chunks), cancel),
    };
  } catch (error) {
    cancel();
    throw error;
  }
}

/** Of 64 bits, as the first one's is. */
function seedOf(seed: string, index: number): string {
  return BigInt.asUintN(64, BigInt(seed) + BigInt(index)).toString();
}

/**
 * The chunks of all sources, in the order in which they come. Each source is one chunk ahead at
 * most: who takes none holds all of them, and a fast one never waits for a slow one.
 */
async function* merged(
  sources: readonly AsyncIterable<Chunk>[],
  cancel: () => void,
): AsyncGenerator<ChoiceChunk> {
  const readers = sources.map((source) => source[Symbol.asyncIterator]());
  const open = new Set(readers.keys());
  const arrived: { readonly index: number; readonly chunk: Chunk | undefined }[] = [];
  let wake = () => {};
  const read = async (index: number, reader: AsyncIterator<Chunk>) => {
    arrived.push({ index, chunk: await nextOf(reader) });
    wake();
  };
  let reading = readers.length;
  readers.forEach((reader, index) => void read(index, reader));
  try {
    while (reading > 0) {
      const next = arrived.shift();
      if (next === undefined) {
        await new Promise<void>((resolve) => wake = resolve);
        continue;
      }
      const { index, chunk } = next;
      const reader = readers[index];
      if (chunk === undefined || reader === undefined) {
        reading--;
        continue;
      }
      if (isTerminal(chunk)) open.delete(index);
      yield { index, chunk };
      void read(index, reader);
    }
  } finally {
    if (open.size > 0) cancel();
    await Promise.allSettled(readers.map((reader) => reader.return?.()));
  }
}

/** Undefined at the end; a source that throws, against its word, ends as one that failed. */
async function nextOf(reader: AsyncIterator<Chunk>): Promise<Chunk | undefined> {
  try {
    const { value, done } = await reader.next();
    return done ? undefined : value;
  } catch (error) {
    return { type: "Error", error: toAppError(error).toInfo() };
  }
}

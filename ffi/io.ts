/** Files of tensors: safetensors in and out, GGUF in. */
import { check, native, takeText } from "./bind.ts";
import { cString, packStrings, unpackStrings } from "./strings.ts";
import { Tensor } from "./tensor.ts";

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /** By name. */
  readonly tensors: Map<string, Tensor>;
  /** What the file says about itself, e.g. its format. */
  readonly metadata: Map<string, string>;
}

/**
 * Opens a safetensors file. Data are read from it when a tensor is evaluated: do not change the
 * file before that.
 * @throws {NativeError} if the file is missing or malformed.
 */
export function loadSafetensors(path: string): SafetensorsFile {
  const count = check("shim_load_safetensors", native().shim_load_safetensors(cString(path)));
  const { tensors, rest } = takeLoaded(count);
  const metadata = new Map<string, string>();
  for (let i = 0; i + 1 < rest.length; i += 2) metadata.set(rest[i] ?? "", rest[i + 1] ?? "");
  return { tensors, metadata };
}

/**
 * Loads the tensors of a GGUF file by name. Q4_0, Q4_1 and Q8_0 stay quantised, as `NAME.weight`
 * (uint32), `NAME.scales` and `NAME.biases` in groups of 32; other quantised types become float16,
 * and MLX leaves out those that it does not know.
 * @throws {NativeError} if the file is missing or malformed.
 */
export function loadGguf(path: string): Map<string, Tensor> {
  return takeLoaded(check("shim_load_gguf", native().shim_load_gguf(cString(path)))).tensors;
}

function takeLoaded(count: number): { tensors: Map<string, Tensor>; rest: string[] } {
  const strings = unpackStrings(takeText(native().shim_take_text(new Uint8Array(0), 0)));
  const handles = new Int32Array(count);
  check("shim_take_handles", native().shim_take_handles(handles, count));
  const tensors = new Map<string, Tensor>();
  handles.forEach((handle, i) => tensors.set(strings[i] ?? "", new Tensor(handle)));
  return { tensors, rest: strings.slice(count) };
}

/**
 * Writes tensors and metadata to a safetensors file, evaluating them first.
 * MLX appends `.safetensors` to a path that does not end in it.
 * @throws {NativeError} if the file cannot be written.
 */
export function saveSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
  metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>> = {},
): void {
  const named = entries(tensors);
  const handles = Int32Array.from(named, ([, tensor]) => tensor.handle);
  const names = packStrings(named.map(([name]) => name));
  const words = packStrings(entries(metadata).flat());
  const returned = native().shim_save_safetensors(
    cString(path),
    handles,
    handles.length,
    names,
    names.length,
    words,
    words.length,
  );
  check("shim_save_safetensors", returned);
}

function entries<T>(map: ReadonlyMap<string, T> | Readonly<Record<string, T>>): [string, T][] {
  return map instanceof Map ? [...map] : Object.entries(map);
}

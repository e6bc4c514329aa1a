/** Element types: their names, their numbers in the ABI and the typed arrays that hold them. */

/** The name of an element type. */
export type Dtype = (typeof DTYPES)[number];

/** Every element type, at the index that is its number in the ABI (MLX's own order). */
export const DTYPES = [
  "bool",
  "uint8",
  "uint16",
  "uint32",
  "uint64",
  "int8",
  "int16",
  "int32",
  "int64",
  "float16",
  "float32",
  "float64",
  "bfloat16",
] as const;

/** A typed array that a tensor can be made of or read into. */
export type TypedArray =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/** The number of an element type in the ABI. */
export const DTYPE_CODE: Readonly<Record<Dtype, number>> = Object.fromEntries(
  DTYPES.map((name, code) => [name, code]),
) as Record<Dtype, number>;

/** The bytes of one element. */
export const ITEM_BYTES: Readonly<Record<Dtype, number>> = {
  bool: 1,
  uint8: 1,
  uint16: 2,
  uint32: 4,
  uint64: 8,
  int8: 1,
  int16: 2,
  int32: 4,
  int64: 8,
  float16: 2,
  float32: 4,
  float64: 8,
  bfloat16: 2,
};

/** The element type with this number. */
export function dtypeOf(code: number): Dtype {
  const name = DTYPES[code];
  if (name === undefined) throw new RangeError(`Cannot read an element type: number ${code}`);
  return name;
}

/** The element type of a typed array. */
export function dtypeOfTypedArray(data: TypedArray): Dtype {
  const name = data.constructor.name.replace("Array", "").replace("Big", "").toLowerCase();
  if (name in DTYPE_CODE) return name as Dtype;
  throw new TypeError(`Cannot make a tensor of a ${data.constructor.name}: pass its bytes instead`);
}

/** An empty typed array for elements of a type, and the type to read them as. */
export function arrayFor(dtype: Dtype, size: number): { array: TypedArray; readAs: Dtype } {
  switch (dtype) {
    case "bool":
    case "uint8":
      return { array: new Uint8Array(size), readAs: "uint8" };
    case "uint16":
      return { array: new Uint16Array(size), readAs: dtype };
    case "uint32":
      return { array: new Uint32Array(size), readAs: dtype };
    case "uint64":
      return { array: new BigUint64Array(size), readAs: dtype };
    case "int8":
      return { array: new Int8Array(size), readAs: dtype };
    case "int16":
      return { array: new Int16Array(size), readAs: dtype };
    case "int32":
      return { array: new Int32Array(size), readAs: dtype };
    case "int64":
      return { array: new BigInt64Array(size), readAs: dtype };
    case "float64":
      return { array: new Float64Array(size), readAs: dtype };
    case "float16":
    case "bfloat16":
    case "float32":
      return { array: new Float32Array(size), readAs: "float32" };
  }
}

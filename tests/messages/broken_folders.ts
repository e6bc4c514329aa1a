import { join } from "node:path";
import { tinyCheckpoint } from "../support/checkpoint.ts";

const WEIGHTS = "model.safetensors";
const INDEX = "model.safetensors.index.json";

type Change = (folder: string) => Promise<void>;

const write = (name: string, text: string): Change => (folder) =>
  Deno.writeTextFile(join(folder, name), text);
const remove = (name: string): Change => (folder) => Deno.remove(join(folder, name));

/** The config of the tiny checkpoint with other fields; undefined takes one away. */
function config(fields: object): Change {
  return async (folder) => {
    const path = join(folder, "config.json");
    const json = JSON.parse(await Deno.readTextFile(path));
    await Deno.writeTextFile(path, JSON.stringify({ ...json, ...fields }));
  };
}

/** A weight file with this header and so much data. */
function weights(
  header: unknown,
  { dataBytes = 32, headerBytes }: { dataBytes?: number; headerBytes?: bigint } = {},
): Change {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const length = new Uint8Array(BigUint64Array.of(headerBytes ?? BigInt(json.length)).buffer);
  return (folder) =>
    Deno.writeFile(
      join(folder, WEIGHTS),
      new Uint8Array([...length, ...json, ...new Uint8Array(dataBytes)]),
    );
}

const entry = (fields: object = {}) => ({
  dtype: "F32",
  shape: [8],
  data_offsets: [0, 32],
  ...fields,
});
const index = (file: string) => write(INDEX, JSON.stringify({ weight_map: { "a.weight": file } }));

/** Checkpoint folders with one thing wrong, by what it is. */
export const BROKEN_FOLDERS: Readonly<Record<string, Change>> = {
  "a folder without a config": remove("config.json"),
  "a folder without a tokenizer": remove("tokenizer.json"),
  "a config that is not JSON": write("config.json", "{"),
  "a config that is a list": write("config.json", "[]"),
  "a config without a model type": config({ model_type: undefined }),
  "a config of an unsupported architecture": config({ model_type: "mamba2" }),
  "a config without a count of layers": config({ num_hidden_layers: undefined }),
  "a config with layers as text": config({ num_hidden_layers: "two" }),
  "a config with two fields wrong": config({ hidden_size: -8, num_attention_heads: 0.5 }),
  "a config that is a folder": async (folder) => {
    await Deno.remove(join(folder, "config.json"));
    await Deno.mkdir(join(folder, "config.json"));
  },
  "a generation config that is not JSON": write("generation_config.json", "hot"),
  "a folder without weights": remove(WEIGHTS),
  "weights that are empty": (folder) => Deno.writeFile(join(folder, WEIGHTS), new Uint8Array()),
  "weights of three bytes": (folder) => Deno.writeFile(join(folder, WEIGHTS), new Uint8Array(3)),
  "weights with a header that is too long": weights({}, { headerBytes: 2n ** 40n }),
  "weights with a header that is not JSON": weights("not JSON at all"),
  "weights with a header that is a list": weights([]),
  "weights with an entry of no sense": weights({ "a.weight": { dtype: 1 } }),
  "weights of an unknown type": weights({ "a.weight": entry({ dtype: "F8_E4M3" }) }),
  "weights of a wrong length": weights({ "a.weight": entry({ shape: [9] }) }),
  "weights beyond the end": weights({ "a.weight": entry() }, { dataBytes: 16 }),
  "weights that overlap": weights({ "a.weight": entry(), "b.weight": entry() }),
  "weights of no tensors": weights({}, { dataBytes: 0 }),
  "weights with a gap": weights({ "a.weight": entry({ data_offsets: [8, 40] }) }, {
    dataBytes: 40,
  }),
  "weights with bytes left over": weights({ "a.weight": entry() }, { dataBytes: 48 }),
  "weights cut off": async (folder) => {
    const path = join(folder, WEIGHTS);
    await Deno.truncate(path, (await Deno.stat(path)).size - 4);
  },
  "an index that is not JSON": write(INDEX, "{"),
  "an index without a map": write(INDEX, "{}"),
  "an index that leads out of the folder": index("../../secret.safetensors"),
  "an index that names a file that is missing": index("model-00002-of-00002.safetensors"),
};

/** Makes the folder of a case and breaks it. */
export async function breakFolder(folder: string, change: Change): Promise<void> {
  await tinyCheckpoint(folder);
  await change(folder);
}

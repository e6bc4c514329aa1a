import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { AppError } from "../../core/errors.ts";
import { ModelId } from "../../core/ids.ts";
import { loadModelCards } from "../../node/model_cards.ts";
import { TempDir } from "../support/temp_dir.ts";

const CARD = `
n_layers = 2
hidden_size = 8
supports_tensor = false
tasks = ["TextGeneration"]
backends = ["MlxCpu"]
[storage_size]
in_bytes = 100
`;

const cardOf = (id: string, more = "") => `model_id = "${id}"\n${more}${CARD}`;
const [A, B] = [ModelId.parse("org/a"), ModelId.parse("org/b")];

/** Writes files, and loads what is in them; `lines` is what the log got. */
async function load(files: Readonly<Record<string, string>>) {
  await using dir = await TempDir.make();
  for (const folder of ["resources/cards", "custom"]) {
    await Deno.mkdir(`${dir.path}/${folder}`, { recursive: true });
  }
  for (const [name, text] of Object.entries(files)) {
    await Deno.writeTextFile(`${dir.path}/${name}`, text);
  }
  const records: LogRecord[] = [];
  await configure({
    reset: true,
    sinks: { kept: (record) => records.push(record) },
    loggers: [
      { category: ["exo", "cards"], sinks: ["kept"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
    ],
  });
  try {
    const loaded = await loadModelCards({
      resourcesDir: `${dir.path}/resources`,
      customDir: `${dir.path}/custom`,
      exoVersion: "0.1.0",
    });
    const lines = records.map(({ message }) => message.join("").replaceAll(dir.path, ""));
    return { ...loaded, lines };
  } finally {
    await reset();
  }
}

Deno.test("a node knows the cards that come with exo, and needs none of the user's", async () => {
  const { cards, bundled } = await loadModelCards({ customDir: "/none", exoVersion: "0.1.0" });
  equal(cards.size, 148);
  deepEqual([...cards.keys()], [...bundled]);
  equal(cards.get(ModelId.parse("mlx-community/Qwen3-30B-A3B-4bit"))?.nLayers, 48);
});

Deno.test("EXO_RESOURCES_DIR and the user's folder are read; a card of the user's wins", async () => {
  const { cards, bundled, lines } = await load({
    "resources/cards/org--a.toml": cardOf("org/a", 'family = "theirs"\n'),
    "resources/cards/notes.txt": "no card",
    "custom/org--a.toml": cardOf("org/a", 'family = "mine"\n'),
    "custom/org--b.toml": cardOf("org/b"),
  });
  deepEqual([...cards.keys()], [A, B]);
  deepEqual([cards.get(A)?.family, cards.get(A)?.isCustom], ["mine", true]);
  deepEqual([...bundled], [A]);
  deepEqual(lines, []);
});

Deno.test("a file that is no card is skipped, and the log says which and why", async () => {
  const { cards, lines } = await load({
    "resources/cards/org--a.toml": cardOf("org/a"),
    "custom/broken.toml": "model_id = ",
    "custom/empty.toml": "",
    "custom/large.toml": "#".repeat(2 ** 20 + 1),
    "custom/newer.toml": cardOf("org/n", 'min_exo_version = "9.0.0"\n'),
  });
  deepEqual([...cards.keys()], [A]);
  equal(lines.length, 4);
  const about = (file: string) => lines.find((line) => line.includes(`/custom/${file}.toml`)) ?? "";
  match(about("broken"), /is skipped: Invalid TOML/);
  match(about("empty"), /found nothing as "model_id", a string needed/);
  match(about("large"), /no file of 1.0 MiB at most/);
  match(about("newer"), /exo 0.1.0 found, 9.0.0 needed/);
});

Deno.test("a card with unknown fields or another's name is used, and the log warns", async () => {
  const { cards, lines } = await load({ "custom/x.toml": cardOf("org/b", "colour = 1\n") });
  deepEqual([...cards.keys()], [B]);
  match(lines.join("\n"), /the unknown field "colour" is ignored/);
  match(lines.join("\n"), /its model org\/b belongs in org--b\.toml/);
});

Deno.test("EXO_RESOURCES_DIR without cards is refused", async () => {
  await using dir = await TempDir.make();
  const folders = { resourcesDir: dir.path, customDir: "/none", exoVersion: "0.1.0" };
  await rejects(loadModelCards(folders), (error) => {
    ok(error instanceof AppError);
    equal(error.code, "storage_failed");
    match(error.message, /cards": no such file or directory, a folder of them needed/);
    match(error.hint ?? "", /EXO_RESOURCES_DIR/);
    return true;
  });
});

Deno.test("a user's folder that cannot be read costs its cards alone", async () => {
  await using dir = await TempDir.make();
  const customDir = `${dir.path}/file`;
  await Deno.writeTextFile(customDir, "");
  const { cards } = await loadModelCards({ customDir, exoVersion: "0.1.0" });
  equal(cards.size, 148);
});

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { getLogger } from "@logtape/logtape";
import { parse } from "smol-toml";
import { AppError } from "../core/errors.ts";
import type { ModelId } from "../core/ids.ts";
import { type ModelCard, normalizedId, parseModelCard } from "../core/model_card.ts";
import { formatBytes, MIB } from "../core/units.ts";
import { systemReason } from "./system_error.ts";

const log = getLogger(["exo", "cards"]);

/** The cards that come with exo. */
const BUNDLED = fileURLToPath(new URL("../cards", import.meta.url));

/** Largest file that is read as a card: a thousand times what one takes. */
const CARD_BYTES_MAX = MIB;

/** Where cards are read. */
export interface CardFolders {
  /** Holds `cards/` in place of the program's own; it has to be there. */
  readonly resourcesDir?: string | undefined;
  /** The user's own cards; there may be none. */
  readonly customDir: string;
  readonly exoVersion: string;
}

/** The cards that a node has on its disk. */
export interface ModelCards {
  /** Of each model one: the user's own card, else the bundled one. */
  readonly cards: ReadonlyMap<ModelId, ModelCard>;
  /** The models of which exo brings a card, one of the user's own before it or not. */
  readonly bundled: ReadonlySet<ModelId>;
}

/**
 * Reads all cards. A file that is no card is skipped, and the log says why.
 * @throws {AppError} `storage_failed` when `resourcesDir` has no cards.
 */
export async function loadModelCards(
  { resourcesDir, customDir, exoVersion }: CardFolders,
): Promise<ModelCards> {
  const shipped = resourcesDir === undefined ? BUNDLED : join(resourcesDir, "cards");
  const bundled = await readFolder(shipped, { isCustom: false, exoVersion }).catch((cause) => {
    throw withoutCards(shipped, cause);
  });
  const own = await readFolder(customDir, { isCustom: true, exoVersion }).catch((cause) => {
    if (cause.code !== "ENOENT") {
      log.warn("no cards from {customDir}: {cause}", { customDir, cause: systemReason(cause) });
    }
    return [];
  });
  const cards = new Map([...bundled, ...own].map((card) => [card.modelId, card]));
  return { cards, bundled: new Set(bundled.map(({ modelId }) => modelId)) };
}

function withoutCards(folder: string, cause: unknown): AppError {
  const found = systemReason(cause);
  const message = `Cannot read the model cards in "${folder}": ${found}, a folder of them needed`;
  const hint = "unset EXO_RESOURCES_DIR, or let it name a folder that holds cards/";
  return new AppError("storage_failed", message, { hint, cause });
}

/** How the cards of a folder are read. */
type Reading = Pick<Parameters<typeof parseModelCard>[1], "isCustom" | "exoVersion">;

async function readFolder(folder: string, reading: Reading): Promise<ModelCard[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".toml")).sort();
  const cards = await Promise.all(names.map((name) => readCard(join(folder, name), reading)));
  return cards.filter((card) => card !== undefined);
}

async function readCard(file: string, reading: Reading): Promise<ModelCard | undefined> {
  try {
    const info = await stat(file);
    if (!info.isFile() || info.size > CARD_BYTES_MAX) {
      throw new Error(`it is no file of ${formatBytes(CARD_BYTES_MAX)} at most`);
    }
    const text = await readFile(file, "utf8");
    const { card, warnings } = parseModelCard(parse(text), { file, ...reading });
    if (!file.endsWith(`/${normalizedId(card.modelId)}.toml`)) {
      warnings.push(`its model ${card.modelId} belongs in ${normalizedId(card.modelId)}.toml`);
    }
    for (const warning of warnings) log.warn("model card {file}: {warning}", { file, warning });
    return card;
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    log.warn("model card {file} is skipped: {found}", { file, found });
    return undefined;
  }
}

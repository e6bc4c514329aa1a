import { parse } from "smol-toml";
import { type ModelCard, normalizedId, parseModelCard } from "../../core/model_card.ts";

/** A card that comes with exo. */
export function bundledCard(modelId: string): ModelCard {
  const file = new URL(`../../cards/${normalizedId(modelId)}.toml`, import.meta.url);
  const source = { file: file.pathname, isCustom: false, exoVersion: "0.1.0" };
  return parseModelCard(parse(Deno.readTextFileSync(file)), source).card;
}

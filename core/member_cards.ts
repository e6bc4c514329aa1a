/** What models are that wishes name: asked of the shell, since only it can ask a hub. */
import type { ModelId } from "./ids.ts";
import { type CardQuestion, dropMessage, type Input, type Turn, update } from "./member_state.ts";
import type { CardLookup } from "./reconcile.ts";
import { put } from "./state.ts";
import type { Millis } from "./units.ts";

/** How long the shell may look for a model's card. */
export const CARD_LOOKUP_MS = 10_000;

/** When nobody could tell, the question is asked again after so long. */
export const CARD_RETRY_MS = 60_000;

/** Asks for the cards of models that wishes name, each once a while; forgets all others. */
export function askForCards(turn: Turn): void {
  const { uptime } = turn.context;
  const { state, cards } = turn.member;
  const wanted = [...state.metaInstances.values()].filter(({ modelCard }) => !modelCard);
  const asked = new Map<ModelId, CardQuestion>();
  for (const { modelId } of wanted) {
    const before = asked.get(modelId) ?? cards.get(modelId);
    const question = before && questionAt(before, uptime);
    if (!question) turn.said.push({ type: "LookUpCard", modelId });
    asked.set(modelId, question ?? { at: uptime, lookup: before?.lookup });
  }
  update(turn, { cards: asked });
}

/** The question as it stands now; undefined when it has to be asked again. */
function questionAt(question: CardQuestion, uptime: Millis): CardQuestion | undefined {
  const { at, lookup } = question;
  if (lookup?.ok) return question;
  if (uptime >= at + CARD_RETRY_MS) return undefined;
  if (lookup || uptime < at + CARD_LOOKUP_MS) return question;
  const reason = `nobody could tell within ${CARD_LOOKUP_MS / 1_000} s`;
  return { at, lookup: { ok: false, reason } };
}

/** The shell could tell what a model is, or not. */
export function cardLookedUp(
  turn: Turn,
  { modelId, lookup }: Extract<Input, { type: "CardLookup" }>,
): void {
  const { cards, reign } = turn.member;
  const { uptime } = turn.context;
  if (!cards.has(modelId)) return dropMessage(turn);
  update(turn, { cards: put(cards, modelId, { at: uptime, lookup }) });
  if (reign) update(turn, { reign: { ...reign, reconcileAt: uptime } });
}

/** The answers that have come. */
export function answeredCards(turn: Turn): ReadonlyMap<ModelId, CardLookup> {
  const { cards } = turn.member;
  return new Map([...cards].flatMap(([id, { lookup }]) => (lookup ? [[id, lookup]] : [])));
}

import { toAppError } from "../core/errors.ts";
import { alternate } from "./rounds.ts";
import type { ModelServer, RunningServer } from "./server.ts";
import type { ServingRound, ServingServer, ServingSettings } from "./serving_report.ts";
import { type ServingPrompts, servingTurn } from "./serving_turn.ts";

/** What the rounds are given. */
export interface ServingWorld {
  /** The share of the machine that is in use, in percent; null where nobody knows. */
  readonly busy: () => Promise<number | null>;
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
}

/**
 * Lets all servers take turns on the same prompts, one at a time; what fails is in the rounds.
 * Rejects only when `signal` is aborted.
 */
export async function servingRounds(
  servers: readonly ModelServer[],
  settings: ServingSettings,
  { busy, signal, onProgress }: ServingWorld,
): Promise<ServingServer[]> {
  const played = new Map<ModelServer, ServingRound[]>(servers.map((server) => [server, []]));
  let prompts: ServingPrompts | undefined;
  await alternate(servers, settings.rounds, async (server, round) => {
    const busyPercent = await busy();
    onProgress(`Round ${round + 1} of ${settings.rounds}: ${server.name}`);
    let running: RunningServer | undefined;
    let turn: Pick<ServingRound, "figures" | "error">;
    try {
      running = await server.start();
      const found = await servingTurn(running, settings, prompts);
      prompts = found.prompts;
      turn = { figures: found.figures, error: null };
    } catch (thrown) {
      const error = toAppError(thrown);
      onProgress(`${server.name} failed: ${error.message}`);
      turn = { figures: null, error: error.toInfo() };
    }
    await running?.stop();
    signal.throwIfAborted();
    played.get(server)?.push({ round, busyPercent, ...turn });
  });
  return servers.map((server) => {
    const { name, version, settings } = server;
    return { name, version, settings, rounds: played.get(server) ?? [] };
  });
}

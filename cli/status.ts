import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { Bell } from "../api/bell.ts";
import { type CommandContext, defineCommand } from "./command.ts";
import { statusOf, statusText, StatusView } from "./status_view.ts";

/** Shortest time between two looks: a busy cluster changes all the time. */
const WATCH_MS_MIN = 100;

/** Longest time between two looks: memory and speeds change without an event. */
const WATCH_MS_MAX = 1_000;

type Context = Pick<CommandContext<unknown, StatusView>, "connect" | "out" | "signal">;

/** `exo status`. */
export const status = defineCommand({
  name: "status",
  summary: "Show nodes, links, instances and tasks",
  description: "With --watch until it is interrupted, or the node is gone; --json then prints a " +
    "line at each change",
  example: ["status", "status --json", "status --watch"],
  args: z.object({
    watch: z.boolean().default(false).describe("Go on, and show what changes")
      .meta({ short: "w" }),
  }),
  json: StatusView,
  async run({ args, client, connect, out, signal }) {
    if (args.watch) return await watch({ connect, out, signal });
    const view = statusOf(await client.state());
    out.result(view, statusText(view));
  },
});

/**
 * Shows the state after each event, and now and then without one.
 * @throws {AppError} `cancelled` when the user ends it, `node_unreachable` when the node is gone.
 */
async function watch({ connect, out, signal }: Context): Promise<never> {
  const left = new AbortController();
  const ending = AbortSignal.any([signal, left.signal]);
  const client = connect(ending);
  const changes = new Bell();
  const following = (async (): Promise<never> => {
    for await (const _ of client.changes()) changes.ring();
    throw new Error("changes have no end");
  })();
  // Told by the race below, also when it fails before it is asked.
  following.catch(() => {});
  const timer = setInterval(() => changes.ring(), WATCH_MS_MAX);
  try {
    while (true) {
      const view = statusOf(await client.state());
      out.update(view, statusText(view));
      await Promise.race([following, pause(WATCH_MS_MIN, undefined, { signal: ending })]);
      await Promise.race([following, changes.heard()]);
    }
  } finally {
    clearInterval(timer);
    left.abort();
  }
}

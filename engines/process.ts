import { AppError, toAppError } from "../core/errors.ts";
import { CommandQueue } from "./command_queue.ts";
import type { Builder } from "./engine.ts";
import type { FakeScript } from "./fake.ts";
import { COMMANDS_FD, readCommands, reportWriter } from "./pipes.ts";
import { Runner } from "./runner.ts";

/**
 * The whole life of a runner process: reads commands from its node, drives an engine, reports.
 * Returns the exit code: 0 when told to shut down or when the node is gone. `choose` gives the
 * builder of the engine, and may write bytes of its own where reports go.
 */
export async function runRunnerProcess(
  incarnation: number,
  choose: (write: (bytes: Uint8Array) => void) => Promise<Builder> = chooseBuilder,
): Promise<number> {
  const commands = new CommandQueue();
  // Ctrl-C in a terminal reaches the runner too; the node decides what it means.
  for (const signal of ["SIGINT", "SIGHUP"] as const) Deno.addSignalListener(signal, () => {});
  Deno.addSignalListener("SIGTERM", () => Deno.exit(0));
  const { emit, write, flush } = reportWriter();
  try {
    readCommands(commands);
    const builder = await choose(write);
    const pace = { breathe: breather(builder), now: () => performance.now() };
    const runner = new Runner({ incarnation, builder, commands, emit, ...pace });
    const broken = Promise.withResolvers<never>();
    const relief = setInterval(() => {
      try {
        runner.relieve();
      } catch (cause) {
        broken.reject(cause); // Other ranks are gone, say: nothing is to be had of this one either.
      }
    }, RELIEF_MS);
    await Promise.race([runner.run(), broken.promise]).finally(() => clearInterval(relief));
    await flush();
    return 0;
  } catch (cause) {
    const error = toAppError(cause, "load_failed");
    const reason = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
    emit({ type: "RunnerError", incarnation, reason, code: error.code });
    await flush();
    return 1;
  }
}

/** How often a runner at rest looks whether the system is short of memory. */
const RELIEF_MS = 5_000;

/** Least time between two looks at the pipes: one costs some 25 µs, with a timer 2 ms. */
const BREATHE_MS = 1;

/** Lets the pipes move between two steps, if none has moved them for a while. */
function breather(builder: Builder): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < BREATHE_MS) return;
    await builder.breathe();
    last = performance.now();
  };
}

/** What a fake engine is to do. @throws {AppError} `usage` when the file does not say it. */
async function readScript(path: string, schema: typeof FakeScript): Promise<FakeScript> {
  try {
    return schema.parse(JSON.parse(await Deno.readTextFile(path)));
  } catch (cause) {
    const message = `Cannot use EXO_ENGINE_SCRIPT="${path}": a JSON file of a FakeScript needed`;
    throw new AppError("usage", message, { hint: "engines/fake.ts says what it holds", cause });
  }
}

/** The engine that the environment asks for: MLX, or for tests `EXO_ENGINE=fake`. */
export async function chooseBuilder(write: (bytes: Uint8Array) => void): Promise<Builder> {
  const wanted = Deno.env.get("EXO_ENGINE") ?? "mlx";
  if (wanted === "fake") {
    const { FakeBuilder, FakeScript } = await import("./fake.ts");
    const script = Deno.env.get("EXO_ENGINE_SCRIPT");
    return new FakeBuilder(script ? await readScript(script, FakeScript) : {}, write);
  }
  if (wanted !== "mlx") {
    throw new AppError("usage", `Cannot use EXO_ENGINE="${wanted}": mlx or fake needed`, {
      hint: "unset EXO_ENGINE for the real one",
    });
  }
  const { watchParent } = await import("../ffi/mod.ts");
  // From a native thread, since a step blocks this one: no runner outlives its node.
  watchParent(COMMANDS_FD);
  const { TextBuilder } = await import("./text_builder.ts");
  return new TextBuilder();
}

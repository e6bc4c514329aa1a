/**
 * A runner with the real engine, which is struck as the fake engine's script (EXO_ENGINE_SCRIPT)
 * says. Where it is held, `reached` beside the script names the stage, so that others may strike.
 */
import type { Builder } from "../../engines/engine.ts";
import { FakeScript, type Stage, strike } from "../../engines/fake.ts";
import { chooseBuilder, runRunnerProcess } from "../../engines/process.ts";
import { TextBuilder } from "../../engines/text_builder.ts";
import { StruckBuilder } from "./struck_engine.ts";

const scriptFile = Deno.env.get("EXO_ENGINE_SCRIPT") ?? "";
const script = FakeScript.parse(JSON.parse(Deno.readTextFileSync(scriptFile)));

function onStage(stage: Stage, rank: number, write: (bytes: Uint8Array) => void): void {
  if (script.hangIn === stage && rank === script.rank) {
    Deno.writeTextFileSync(`${scriptFile}.reached`, stage);
  }
  strike(script, stage, write, rank);
}

/**
 * How many milliseconds of its own clock the engine counts for one: to it, its work takes so many
 * times as long. Absent: one.
 */
const clockRate = Number(Deno.env.get("EXO_TEST_CLOCK_RATE") ?? 1);

async function builderOf(write: (bytes: Uint8Array) => void): Promise<Builder> {
  const usual = await chooseBuilder(write);
  if (clockRate === 1) return usual;
  return new TextBuilder({ now: () => performance.now() * clockRate });
}

const incarnation = Number(Deno.args[Deno.args.indexOf("--incarnation") + 1]);
const code = await runRunnerProcess(
  incarnation,
  async (write) =>
    new StruckBuilder(
      await builderOf(write),
      (stage, rank) => onStage(stage, rank, write),
      ({ submitted }) => submitted >= script.gatherRequests,
    ),
);
Deno.exit(code);

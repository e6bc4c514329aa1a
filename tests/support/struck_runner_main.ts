/**
 * A runner with the real engine, which is struck as the fake engine's script (EXO_ENGINE_SCRIPT)
 * says. Where it is held, `reached` beside the script names the stage, so that others may strike.
 */
import { FakeScript, type Stage, strike } from "../../engines/fake.ts";
import { chooseBuilder, runRunnerProcess } from "../../engines/process.ts";
import { StruckBuilder } from "./struck_engine.ts";

const scriptFile = Deno.env.get("EXO_ENGINE_SCRIPT") ?? "";
const script = FakeScript.parse(JSON.parse(Deno.readTextFileSync(scriptFile)));

function onStage(stage: Stage, write: (bytes: Uint8Array) => void): void {
  if (script.hangIn === stage) Deno.writeTextFileSync(`${scriptFile}.reached`, stage);
  strike(script, stage, write);
}

const incarnation = Number(Deno.args[Deno.args.indexOf("--incarnation") + 1]);
const code = await runRunnerProcess(
  incarnation,
  async (write) =>
    new StruckBuilder(
      await chooseBuilder(write),
      (stage) => onStage(stage, write),
      script.gatherRequests,
    ),
);
Deno.exit(code);

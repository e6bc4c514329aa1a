/** The runner process of the tests: what `exo runner` does, without the command line. */
import { runRunnerProcess } from "../../engines/process.ts";

Deno.exit(await runRunnerProcess(Number(Deno.args[Deno.args.indexOf("--incarnation") + 1])));

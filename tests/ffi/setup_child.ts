/** Runs the setup as its environment says and prints what came of it; `setup_test.ts` starts it. */
import { SetupError } from "../../ffi/errors.ts";
import { ensureSetup } from "../../ffi/setup.ts";

const [probe] = Deno.args;

async function outcome(): Promise<unknown> {
  const lines: string[] = [];
  try {
    const setup = await ensureSetup({
      onProgress: (line) => lines.push(line),
      ...(probe === undefined ? {} : { probeCommand: [probe] }),
    });
    return { ...setup, lines };
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    return { message: error.message, hint: error.hint, lines };
  }
}

const bytes = new TextEncoder().encode(JSON.stringify(await outcome()));
Deno.stdout.writeSync(bytes);

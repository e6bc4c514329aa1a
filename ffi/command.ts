/** Runs the few programs that the setup needs, and knows what installs them. */
import { SetupError } from "./errors.ts";
import { exists } from "./layout.ts";

/** How a program ended and what it said. */
export interface Outcome {
  readonly ok: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that the setup may find missing. */
export type Program = "python3" | "pip" | "c++";

/** Runs a program to its end; undefined if there is no such program. */
export async function run(
  program: string,
  args: readonly string[],
  cwd?: string,
  env?: Record<string, string>,
): Promise<Outcome | undefined> {
  try {
    const command = new Deno.Command(program, {
      args: [...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      ...(cwd === undefined ? {} : { cwd }),
      ...(env === undefined ? {} : { env }),
    });
    const { success, stdout, stderr } = await command.output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
    return { ok: success, stdout: text(stdout), stderr: text(stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    const reason = error instanceof Error ? error.message : String(error);
    throw new SetupError(`Cannot run "${program}": ${reason}`, "check that it is executable", {
      cause: error,
    });
  }
}

const APT = { python3: "python3 python3-pip", pip: "python3-pip", "c++": "g++" };
const DNF = { python3: "python3 python3-pip", pip: "python3-pip", "c++": "gcc-c++" };
const PACMAN = { python3: "python python-pip", pip: "python-pip", "c++": "gcc" };

/** The command that installs a program on this machine. */
export function installCommand(program: Program): string {
  if (Deno.build.os === "darwin") {
    return program === "c++" ? "xcode-select --install" : "brew install python";
  }
  if (exists("/usr/bin/dnf")) return `sudo dnf install -y ${DNF[program]}`;
  if (exists("/usr/bin/pacman")) return `sudo pacman -S --needed ${PACMAN[program]}`;
  return `sudo apt-get install -y ${APT[program]}`;
}

/** The last lines of what a program said, for an error message. */
export function lastLines(text: string, count = 8): string {
  return text.split("\n").slice(-count).join("\n");
}

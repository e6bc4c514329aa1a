import { z } from "zod";
import { defineCommand } from "./command.ts";
import { type Offer, offersOf } from "./completion_table.ts";
import { bashCompletions } from "./completions_bash.ts";
import { fishCompletions } from "./completions_fish.ts";
import { zshCompletions } from "./completions_zsh.ts";

const SHELLS: Readonly<Record<"bash" | "zsh" | "fish", (offers: readonly Offer[]) => string>> = {
  bash: bashCompletions,
  zsh: zshCompletions,
  fish: fishCompletions,
};

/** `exo completions`. */
export const completions = defineCommand({
  name: "completions",
  summary: "Print a script that completes exo in a shell",
  description: "bash and fish: write it to the file of the example, in a folder that may have to " +
    "be made first. zsh: write it to a file _exo in a folder of fpath, ahead of compinit. " +
    "A new shell then knows it",
  example: [
    "completions bash > ~/.local/share/bash-completion/completions/exo",
    'completions zsh > "${fpath[1]}/_exo"',
    "completions fish > ~/.config/fish/completions/exo.fish",
  ],
  positionals: ["shell"],
  isLocal: true,
  args: z.object({
    shell: z.enum(["bash", "zsh", "fish"]).describe("bash, zsh or fish"),
  }),
  json: z.strictObject({
    shell: z.enum(["bash", "zsh", "fish"]).describe("The shell that was asked for"),
    script: z.string().describe("What that shell should read"),
  }),
  async run({ args: { shell }, out }) {
    // The table holds this command too, so it is read only now.
    const { COMMANDS } = await import("./mod.ts");
    const script = SHELLS[shell](await offersOf(COMMANDS));
    out.result({ shell, script }, script);
  },
});

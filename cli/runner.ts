import { z } from "zod";
import { runRunnerProcess } from "../engines/process.ts";
import { defineCommand } from "./command.ts";

/** `exo runner`: a node starts it, with its two pipes on descriptors 3 and 4. */
export const runner = defineCommand({
  name: "runner",
  summary: "Run this binary as the runner of one rank",
  description: "A node starts this with two pipes; it is of no use by hand",
  example: "runner --incarnation 1",
  isLocal: true,
  isHidden: true,
  args: z.object({
    incarnation: z.number().int().min(0).describe("Which start of the runner this is"),
  }),
  json: z.never(),
  run: ({ args }) => runRunnerProcess(args.incarnation),
});

import { deepEqual, equal, match } from "node:assert/strict";
import { z } from "zod";
import { type Command, defineCommand } from "../../cli/command.ts";
import { runProgram } from "../../cli/program.ts";
import { ioOf } from "./fake_io.ts";

/** A local command with every kind of flag; it hands its arguments to `seen`. */
function kitchen(seen: (args: unknown) => void): Command {
  return defineCommand({
    name: "cook",
    summary: "Cook",
    example: "cook soup",
    isLocal: true,
    positionals: ["dish", "guests"],
    args: z.object({
      dish: z.string(),
      guests: z.array(z.string()).default([]),
      port: z.coerce.number().int().min(0).max(65_535).default(80).meta({ env: "COOK_PORT" }),
      auth: z.boolean().default(true).describe("Cook for anybody").meta({ env: "COOK_AUTH" }),
      verbose: z.boolean().default(false).meta({ short: "v" }),
      apiKey: z.string().optional().meta({ env: "COOK_KEY" }),
      spice: z.array(z.number()).default([]),
    }),
    json: z.never(),
    run({ args }) {
      seen(args);
      return args.dish === "burnt" ? 7 : undefined;
    },
  });
}

async function cook(line: string, env: Record<string, string> = {}) {
  let args: unknown;
  const command = kitchen((seen) => args = seen);
  const { io, stdout, stderr } = ioOf({ env });
  const row = { name: "cook", summary: "Cook", load: () => Promise.resolve(command) };
  const code = await runProgram([row], line.split(" "), io);
  return { code, args, stdout: stdout(), stderr: stderr() };
}

const DEFAULTS = {
  dish: "soup",
  guests: [],
  port: 80,
  auth: true,
  verbose: false,
  spice: [],
};

Deno.test("defineCommand() gives each argument its default", async () => {
  deepEqual((await cook("cook soup")).args, DEFAULTS);
});

Deno.test("defineCommand() reads places, lists, short flags, numbers and --no- flags", async () => {
  const line = "cook soup ann bob -v --no-auth --port 81 --spice 1 --spice -2.5 --api-key k";
  deepEqual((await cook(line)).args, {
    dish: "soup",
    guests: ["ann", "bob"],
    port: 81,
    auth: false,
    verbose: true,
    spice: [1, -2.5],
    apiKey: "k",
  });
});

Deno.test("defineCommand() takes a flag before its environment variable", async () => {
  const env = { COOK_PORT: "9", COOK_AUTH: "false", COOK_KEY: "env" };
  const fromEnv = { ...DEFAULTS, port: 9, auth: false, apiKey: "env" };
  deepEqual((await cook("cook soup", env)).args, fromEnv);
  deepEqual((await cook("cook soup --port 0 --api-key k", env)).args, {
    ...fromEnv,
    port: 0,
    apiKey: "k",
  });
  deepEqual((await cook("cook soup", { COOK_PORT: "" })).args, DEFAULTS);
});

Deno.test("defineCommand() refuses a bad value before the command runs", async () => {
  const { code, args, stderr } = await cook("cook soup --port 70000");
  deepEqual([code, args], [2, undefined]);
  match(stderr, /Cannot use --port 70000: at most 65535 needed\nhint: exo cook --help/);
  equal((await cook("cook soup --port x")).code, 2);
});

Deno.test("A local command refuses --url, and passes its own exit code on", async () => {
  const refused = await cook("cook soup --url http://x");
  equal(refused.code, 2);
  match(refused.stderr, /Cannot use --url with exo cook/);
  equal((await cook("cook burnt")).code, 7);
});

/**
 * Every failure that bad input can bring about, provoked through the real code, and what is then
 * said: `tests/golden/messages/`, which `deno test -A tests/messages_test.ts -- --update` rewrites.
 */
import { equal, ok } from "node:assert/strict";
import { ensureSetup } from "../ffi/mod.ts";
import { commandLines } from "./messages/command_line.ts";
import { dataDirs } from "./messages/data_dirs.ts";
import { instances } from "./messages/instances.ts";
import { failingLoads, refusedPrompts } from "./messages/loads.ts";
import { brokenModels } from "./messages/models.ts";
import { chatRequests, otherRequests, stoppedNode } from "./messages/requests.ts";
import { checkGolden, complaints, type Told } from "./messages/told.ts";
import { TempDir } from "./support/temp_dir.ts";
import { hugeCheckpoint, World } from "./messages/world.ts";

const DISKS_MAIN = new URL("./messages/disks_main.ts", import.meta.url).pathname;
const NATIVE_MAIN = new URL("./messages/native_main.ts", import.meta.url).pathname;

/** Names of cases that need no hint, and why. */
const WITHOUT_HINT = new Map([
  ["EXO_ENGINE that nobody knows", "the reason of a runner's end carries its hint in itself"],
  ["a wait that is over", "a message of that stream has no field for it (spec §4)"],
]);

function check(area: string, title: string, told: readonly Told[]): void {
  checkGolden(area, title, told);
  const refused = told.filter(({ outcome }) => !outcome.endsWith("taken"));
  equal(refused.flatMap((one) => complaints(one, !WITHOUT_HINT.has(one.name))).join("\n"), "");
}

Deno.test("a bad request is told what is wrong, and the node goes on", async (t) => {
  await using world = await World.start();
  await hugeCheckpoint(`${world.dir}/huge`, 2 ** 42);
  await world.node.addModel(`${world.dir}/huge`);
  await t.step("chat completions", async () => {
    check("chat", "Chat completions", await chatRequests(world));
  });
  await t.step("files that are no models", async () => {
    check("models", "Models that cannot be added", await brokenModels(world));
  });
  await t.step("the command line", async () => {
    check("cli", "The command line", await commandLines(world));
  });
  await t.step("data directories", async () => {
    check("data_dirs", "Data directories", await dataDirs(world));
  });
  await t.step("all other routes", async () => {
    check("api", "The rest of the API", await otherRequests(world));
  });
  await t.step("instances that do not come up", async () => {
    check("instances", "Instances", await instances(world));
  });
  await t.step("a node that has stopped", async () => {
    check("stopped", "A node that has stopped", await stoppedNode(world));
  });
});

/** What a program of `tests/messages/` prints, run in a folder of its own. */
async function toldByProgram(path: string, wrapper: readonly string[] = []): Promise<Told[]> {
  await using dir = await TempDir.make();
  const deno = [Deno.execPath(), "run", "-A", "--no-check", path, dir.path];
  const [program = "", ...args] = [...wrapper, ...deno];
  const { stdout, stderr } = await new Deno.Command(program, { args }).output();
  const text = new TextDecoder().decode(stdout);
  ok(text !== "", new TextDecoder().decode(stderr));
  return JSON.parse(text);
}

const CAN_MOUNT = await canMount();
if (!CAN_MOUNT) {
  const why = "full and read-only disks are not tried: unshare --mount is not permitted here\n";
  Deno.stderr.writeSync(new TextEncoder().encode(why));
}

async function canMount(): Promise<boolean> {
  try {
    return (await new Deno.Command("unshare", { args: ["--mount", "true"] }).output()).success;
  } catch {
    return false;
  }
}

Deno.test(
  { name: "a disk that is full or read-only is told apart", ignore: !CAN_MOUNT },
  async () => {
    await using dir = await TempDir.make();
    const deno = [Deno.execPath(), "run", "-A", "--no-check", DISKS_MAIN, dir.path];
    const command = new Deno.Command("unshare", { args: ["--mount", ...deno] });
    const { stdout, stderr } = await command.output();
    const text = new TextDecoder().decode(stdout);
    ok(text !== "", new TextDecoder().decode(stderr));
    check("disks", "Disks", JSON.parse(text));
  },
);

Deno.test("a model that cannot be loaded is told apart from all others", async () => {
  await ensureSetup();
  check("loads", "Models that cannot be loaded", await failingLoads());
});

Deno.test("a prompt that cannot be answered is told why", async () => {
  await ensureSetup();
  check("prompts", "Prompts that cannot be answered", await refusedPrompts());
});

Deno.test("a machine that lacks what MLX needs is told what to install", async () => {
  await ensureSetup();
  check("native", "MLX on this machine", await toldByProgram(NATIVE_MAIN));
});

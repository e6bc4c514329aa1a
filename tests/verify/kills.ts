import assert from "node:assert/strict";
import { ApiClient } from "../../api/client.ts";
import { Random } from "../support/random.ts";
import { ServeProcess } from "../support/exo_process.ts";
import { TempDir } from "../support/temp_dir.ts";

const TINY = new URL("../golden/models/tiny-tied", import.meta.url).pathname;

/** Commands that are given between two kills, at most. */
const COMMANDS_MAX = 20;

/** What the node has acknowledged, and the one command whose answer was never heard. */
interface Ledger {
  readonly created: Set<string>;
  readonly deleted: Set<string>;
}

/**
 * The seed fixes commands and delays; where in a command a kill falls is up to the machine.
 *
 * Gives a node commands, kills it with SIGKILL at a random point, starts it again, and asserts that
 * all it acknowledged holds; `kills` times over one data directory.
 * @throws what was lost.
 */
export async function killNode(
  seed: number,
  kills: number,
  onKill: (kill: number, instances: number) => void = () => {},
): Promise<void> {
  const random = new Random(seed);
  await using dir = await TempDir.make();
  const ledger: Ledger = { created: new Set(), deleted: new Set() };
  let model: string | undefined;
  for (let kill = 0; kill <= kills; kill++) {
    await using serve = await startFake(dir.path);
    const client = new ApiClient({ url: serve.url, apiKey: undefined });
    await check(client, ledger, `seed ${seed}, after kill ${kill}`);
    model ??= (await client.addModel(TINY)).id;
    onKill(kill, ledger.created.size);
    if (kill === kills) break;
    const work = command(client, model, ledger, random);
    // Some milliseconds into the work: in the midst of whatever command that is.
    await new Promise((resolve) => setTimeout(resolve, random.below(150)));
    serve.kill("SIGKILL");
    await work;
    await serve.ended();
  }
}

function startFake(dataDir: string): Promise<ServeProcess> {
  return ServeProcess.start(dataDir, { EXO_ENGINE: "fake" });
}

/** Creates and deletes instances until the node is gone; notes what it acknowledged. */
async function command(
  client: ApiClient,
  model: string,
  { created, deleted }: Ledger,
  random: Random,
): Promise<void> {
  try {
    for (let n = 0; n < COMMANDS_MAX; n++) {
      const victim = created.size > 3 || random.next() < 0.3
        ? random.pick([...created])
        : undefined;
      if (victim === undefined) {
        created.add((await client.placeInstance({ model })).instanceId);
      } else {
        // From here on it may be gone; it must be, once that is acknowledged.
        created.delete(victim);
        await client.deleteInstance(victim);
        deleted.add(victim);
      }
    }
  } catch {
    // The node was killed before it answered: that command may or may not have happened.
  }
}

async function check(client: ApiClient, ledger: Ledger, when: string): Promise<void> {
  const { instances } = await client.state();
  for (const id of ledger.created) assert.ok(id in instances, `${when}: ${id} was lost`);
  for (const id of ledger.deleted) assert.ok(!(id in instances), `${when}: ${id} came back`);
  // What nobody heard of is taken up, so that it is cleared away like the rest.
  for (const id of Object.keys(instances)) ledger.created.add(id);
}

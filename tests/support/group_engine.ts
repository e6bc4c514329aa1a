/** An engine whose first rank is in this process, over sockets to the others, processes of their own. */
import assert from "node:assert/strict";
import type { GroupSpec } from "../../core/group.ts";
import type { BoundModel } from "../../engines/engine.ts";
import { SocketGroup } from "../../engines/group/socket_group.ts";
import { TextBuilder } from "../../engines/text_builder.ts";
import { TextEngine } from "../../engines/text_engine.ts";
import { GroupListener } from "../../ffi/mod.ts";
import { within } from "./eventually.ts";
import { killRank, linesOf, spawnRank, tell } from "./group_ranks.ts";

/** How long ranks may take to start, meet and load on a machine that has much else to do. */
const START_MS_MAX = 120_000;

/** Environment of the first rank: prompts are read elsewhere wherever that is possible. */
const ENV: Readonly<Record<string, string>> = { EXO_REMOTE_PREFILL: "always" };

/** The engine over one model, or over its ranks; whoever uses the engine closes it. */
export class GroupEngine implements AsyncDisposable {
  readonly #others: readonly Deno.ChildProcess[];
  readonly #builder: TextBuilder;
  readonly engine: TextEngine;

  constructor(
    others: readonly Deno.ChildProcess[],
    builder: TextBuilder,
    engine: TextEngine,
  ) {
    [this.#others, this.#builder, this.engine] = [others, builder, engine];
  }

  /** `models`: one for each rank. */
  static async start(models: readonly BoundModel[]): Promise<GroupEngine> {
    const others = models.slice(1).map(spawnRank);
    try {
      return await within("ranks to load", start(others, models), START_MS_MAX);
    } catch (error) {
      others.forEach(killRank);
      throw error;
    }
  }

  /** Ends a rank, not the first. */
  kill(rank: number): void {
    const other = this.#others[rank - 1];
    assert(other);
    killRank(other);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#builder.close();
    this.#others.forEach(killRank);
    await Promise.all(this.#others.map(({ status }) => status));
  }
}

async function start(
  others: readonly Deno.ChildProcess[],
  models: readonly BoundModel[],
): Promise<GroupEngine> {
  let listener: GroupListener | undefined;
  const builder = new TextBuilder({
    env: (name) => ENV[name],
    join: (spec) => SocketGroup.join(spec, listener),
  });
  const size = models.length;
  if (size > 1) {
    listener = GroupListener.bind("127.0.0.1", 0);
    // A stream that is not read to its end would break the pipe of who says why it ends.
    const said = others.map(({ stdout }) => linesOf(stdout));
    const first = await Promise.all(said.map((lines) => lines.next()));
    for (const lines of said) void Array.fromAsync(lines);
    const ports = [listener.port, ...first.map(({ value }) => Number(value?.port))];
    const hosts = ports.map((port) => ({ ip: "127.0.0.1", port }));
    const names = models.map((_, rank) => `node-${rank}`);
    const specOf = (rank: number): GroupSpec => {
      return { groupId: `test/${ports}`, rank, size, names, link: { type: "ring", hosts } };
    };
    await Promise.all(others.map((other, i) => {
      return tell(other, { spec: specOf(i + 1), model: models[i + 1], requests: [] });
    }));
    await builder.connect(specOf(0));
  }
  const [model] = models;
  assert(model);
  for (const _ of builder.load(model)) await builder.breathe();
  const engine = builder.build();
  assert(engine instanceof TextEngine);
  return new GroupEngine(others, builder, engine);
}

/**
 * A rank of a model as a process of its own, without a runner around it: says at which port it
 * listens, takes a {@linkcode RankTask} as a line of JSON, and serves. The first one prints the
 * answers; the others go on until it is gone.
 */
import type { GroupSpec } from "../../core/group.ts";
import { AppError, toAppError } from "../../core/errors.ts";
import { TaskId } from "../../core/ids.ts";
import type { BoundModel, Engine, GenerationTask } from "../../engines/engine.ts";
import { SocketGroup } from "../../engines/group/socket_group.ts";
import { MlxGroup } from "../../engines/mlx/mlx_group.ts";
import { TextBuilder } from "../../engines/text_builder.ts";
import { ensureSetup, GroupListener, turnEventLoop } from "../../ffi/mod.ts";
import type { RankAnswers } from "./group_ranks.ts";
import { freePort } from "./free_port.ts";

/** What a rank is told. */
export interface RankTask {
  readonly spec: GroupSpec;
  readonly model: BoundModel;
  readonly requests: readonly GenerationTask[];
  /** Where MLX's ring, which makes the sums then, listens: `ip:port` by rank. */
  readonly mlxHosts?: readonly string[];
  /** Whether our own kernels compute; else MLX does. */
  readonly isPacked?: boolean;
}

const say = (value: unknown) =>
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));

async function firstLine(): Promise<string> {
  let text = "";
  for await (const part of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    text += part;
    const end = text.indexOf("\n");
    if (end >= 0) return text.slice(0, end);
  }
  throw new Error("stdin ended before the task came");
}

/** The answers to all requests at once, as texts by their ids. */
async function answers(engine: Engine, requests: readonly GenerationTask[]): Promise<RankAnswers> {
  engine.warmup();
  for (const request of requests) {
    engine.submit({ ...request, taskId: TaskId.parse(request.taskId) });
  }
  const texts: Record<string, string> = {};
  const startedAt = performance.now();
  let tokens = 0;
  while (engine.hasWork()) {
    for (const [taskId, response] of engine.step()) {
      if (response.type !== "chunk") continue;
      const { chunk } = response;
      if (chunk.type === "Error") throw AppError.from(chunk.error);
      if (chunk.type !== "Token") continue;
      tokens++;
      texts[taskId] = (texts[taskId] ?? "") + chunk.text;
    }
    await turnEventLoop();
  }
  return {
    texts,
    tokens,
    ms: performance.now() - startedAt,
    kvBytes: engine.stats().memory.kvBytes,
  };
}

/** Until the group is no more. */
async function follow(engine: Engine): Promise<never> {
  while (true) {
    if (!engine.hasWork()) await engine.arrival?.();
    for (const _ of engine.step());
    await turnEventLoop();
  }
}

await ensureSetup();
const listener = GroupListener.bind("127.0.0.1", 0);
// MLX listens by itself: its port was free a moment ago.
say({ port: listener.port, mlxPort: freePort() });
const { spec, model, requests, mlxHosts, isPacked }: RankTask = JSON.parse(await firstLine());
const joinFrames = (spec: GroupSpec) => SocketGroup.join(spec, listener);
const builder = new TextBuilder({
  join: mlxHosts
    ? (spec) => {
      const place = { backend: "ring" as const, rank: spec.rank, hosts: mlxHosts };
      return MlxGroup.join(spec, { place, joinFrames });
    }
    : joinFrames,
  ...(isPacked === undefined ? {} : { isPacked }),
});
try {
  await builder.connect(spec);
  for (const _ of builder.load(model)) await builder.breathe();
  const engine = builder.build();
  if (spec.rank === 0) say(await answers(engine, requests));
  else await follow(engine);
  engine.close();
} catch (error) {
  say({ error: toAppError(error).toInfo() });
} finally {
  builder.close();
}
Deno.exit(0);

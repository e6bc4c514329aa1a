/**
 * A rank of a group over MLX distributed, told what to do line by line: `deno run -A
 * tests/support/mlx_rank_main.ts SPEC TIMEOUT_MS`. Each line of its input is a JSON list, the name
 * of an action and its arguments; each line of its output is the JSON of what came of it.
 */
import { createHash } from "node:crypto";
import { TextLineStream } from "./text_lines.ts";
import { AppError } from "../../core/errors.ts";
import { GroupSpec } from "../../core/group.ts";
import { MlxGroup } from "../../engines/mlx/mlx_group.ts";
import { full, Scope, setDefaultDevice } from "../../ffi/mod.ts";

const [spec = "", timeoutMs = ""] = Deno.args;

function tell(value: unknown): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
}

function failure(cause: unknown): unknown {
  if (!(cause instanceof AppError)) throw cause;
  return { code: cause.code, message: cause.message };
}

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** All byte values in turn. */
const bytesOf = (first: number, count: number) =>
  Uint8Array.from({ length: count }, (_, at) => first + at);

/** What a rank can be told to do. */
const ACTIONS: Record<string, (group: MlxGroup, ...args: number[]) => unknown> = {
  send(group, first = 0, count = 0) {
    const bytes = bytesOf(first, count);
    group.send(bytes.subarray(0, 3), bytes.subarray(3));
    return digest(bytes);
  },
  receive(group, ms = 0) {
    const frame = group.receive(ms);
    return frame ? [frame.length, digest(frame)] : null;
  },
  async arrival(group) {
    await group.arrival();
    return "arrived";
  },
  sum(group, value = 0, count = 1) {
    using _ = new Scope();
    return group.allSum(full([count], value)).toNumbers();
  },
  gather(group, value = 0) {
    using _ = new Scope();
    return group.allGather(full([2], value)).toNumbers();
  },
};

setDefaultDevice("cpu");
try {
  using group = await MlxGroup.join(GroupSpec.parse(JSON.parse(spec)), Number(timeoutMs));
  tell([group.rank, group.size]);
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream());
  for await (const line of lines) {
    const [name, ...args] = JSON.parse(line);
    try {
      tell(await ACTIONS[name]?.(group, ...args));
    } catch (cause) {
      tell(failure(cause));
    }
  }
} catch (cause) {
  tell(failure(cause));
}
Deno.exit(0); // MLX may wait for ever.

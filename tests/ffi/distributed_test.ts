import { deepEqual, equal, rejects } from "node:assert/strict";
import { nativeLayout } from "../../ffi/layout.ts";
import {
  gatherOverPipes,
  initGroup,
  MissingBackendError,
  NativeError,
  type PipePair,
} from "../../ffi/mod.ts";

/** Two named pipes, both ends of which are open here. */
async function pipes() {
  const folder = await Deno.makeTempDir({ prefix: "exo-test-" });
  const pair: PipePair = { input: `${folder}/input`, output: `${folder}/output` };
  const { success } = await new Deno.Command("mkfifo", { args: Object.values(pair) }).output();
  equal(success, true);
  const open = (path: string) => Deno.openSync(path, { read: true, write: true });
  const [input, output] = [open(pair.input), open(pair.output)];
  return {
    ...{ pair, input, output },
    [Symbol.asyncDispose]: async () => {
      input.close();
      output.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/** What has been written, of this many bytes. */
function written(file: Deno.FsFile, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count;) at += file.readSync(bytes.subarray(at)) ?? 0;
  return bytes;
}

const frame = (...bytes: number[]) => new Uint8Array([bytes.length, 0, 0, 0, ...bytes]);

Deno.test("gatherOverPipes() writes a frame, and gives what all ranks wrote", async () => {
  await using side = await pipes();
  side.input.writeSync(frame(0, 255, 10, 13));
  const found = await gatherOverPipes(side.pair, { data: new Uint8Array([10, 13]), ranks: 2 });
  deepEqual(found, new Uint8Array([0, 255, 10, 13]));
  deepEqual(written(side.output, 6), frame(10, 13));
});

Deno.test("gatherOverPipes() moves more than a pipe holds", async () => {
  await using side = await pipes();
  const data = Uint8Array.from({ length: 65_536 }, (_, at) => at);
  const gathering = gatherOverPipes(side.pair, { data, ranks: 3 });
  deepEqual(written(side.output, 4 + data.length).subarray(4), data);
  const all = new Uint8Array(3 * data.length + 4);
  new DataView(all.buffer).setUint32(0, 3 * data.length, true);
  for (let rank = 0; rank < 3; rank++) all.set(data, 4 + rank * data.length);
  for (let at = 0; at < all.length;) at += await side.input.write(all.subarray(at));
  deepEqual(await gathering, all.subarray(4));
});

Deno.test("gatherOverPipes() refuses pieces that are not as long as its own", async () => {
  await using side = await pipes();
  side.input.writeSync(frame(1, 2, 3));
  await rejects(
    gatherOverPipes(side.pair, { data: new Uint8Array([1, 2]), ranks: 2 }),
    (error) =>
      error instanceof NativeError &&
      /\[jaccl\] .*found 3 bytes of all ranks, 4/.test(error.message),
  );
});

Deno.test("gatherOverPipes() says which pipe is not there", async () => {
  await rejects(
    gatherOverPipes({ input: "/no/such/pipe", output: "/no" }, { data: frame(), ranks: 2 }),
    /\[jaccl\] side channel: cannot open \/no\/such\/pipe: No such file/,
  );
});

Deno.test("initGroup() says which backend MLX lacks", async () => {
  const host = { ip: "127.0.0.1", port: 1 };
  if (nativeLayout().variant.startsWith("cuda")) return;
  const failed = await initGroup({ backend: "nccl", rank: 0, size: 2, host }).catch((e) => e);
  equal(failed instanceof MissingBackendError && failed.backend, "nccl");
  equal(failed.message, "Cannot form a group over nccl: the MLX of this machine lacks it");
});

Deno.test("initGroup() passes on why a ring cannot be formed", async () => {
  const failed = await initGroup({
    backend: "ring",
    rank: 2,
    hosts: ["127.0.0.1:1", "127.0.0.1:2"],
  })
    .catch((cause) => cause);
  equal(failed instanceof NativeError, true);
  equal(/\[ring\] Rank cannot be larger than the size/.test(failed.message), true, failed.message);
});

import assert from "node:assert/strict";
import { FifoReader, FifoWriter, makeFifos } from "../../node/fifo.ts";
import { within } from "../support/eventually.ts";
import { TempDir } from "../support/temp_dir.ts";

/** A named pipe in a folder of its own. */
async function fifo() {
  const dir = await TempDir.make();
  const path = `${dir.path}/pipe`;
  await makeFifos(path);
  return { path, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
}

/** Runs a shell command, which stands for the process at the other end. */
function shell(command: string, path: string) {
  const args = ["-c", command, "sh", path];
  return new Deno.Command("sh", { args, stdin: "null", stdout: "piped" }).output();
}

Deno.test("named pipes are for this user alone", async () => {
  await using pipe = await fifo();
  const { mode, isFifo } = await Deno.stat(pipe.path);
  assert.deepEqual([isFifo, (mode ?? 0) & 0o777], [true, 0o600]);
});

Deno.test("a named pipe that cannot be made says why", async () => {
  await using pipe = await fifo();
  await assert.rejects(makeFifos(pipe.path), {
    code: "storage_failed",
    message: /named pipes .*exists/,
  });
});

Deno.test("a reader opens, waits and closes without any writer", async () => {
  await using pipe = await fifo();
  const reader = new FifoReader(pipe.path);
  const reading = reader.readExactly(1);
  await within("the end", reader.close(), 5_000);
  assert.equal(await reading, undefined);
  assert.equal(await reader.readExactly(1), undefined);
  await reader.close();
});

Deno.test("a reader outlives the writers that come and go", async () => {
  await using pipe = await fifo();
  const reader = new FifoReader(pipe.path);
  for (const text of ["first", "then "]) {
    const reading = reader.readExactly(5);
    await shell(`printf '${text}' > "$1"`, pipe.path);
    assert.equal(new TextDecoder().decode(await reading), text);
  }
  assert.deepEqual(await reader.readExactly(0), new Uint8Array());
  await reader.close();
});

Deno.test("a reader gives what was asked, however it comes", async () => {
  await using pipe = await fifo();
  const reader = new FifoReader(pipe.path);
  const writing = shell(`head -c 200000 /dev/zero > "$1"`, pipe.path);
  assert.equal((await reader.readExactly(3))?.length, 3);
  assert.equal((await reader.readExactly(199_997))?.length, 199_997);
  await writing;
  await reader.close();
});

Deno.test("a writer opens without any reader; what it writes waits for one", async () => {
  await using pipe = await fifo();
  const writer = new FifoWriter(pipe.path);
  const writing = writer.write(new Uint8Array(200_000));
  const { stdout } = await shell(`head -c 200000 "$1" | wc -c`, pipe.path);
  assert.equal(Number(new TextDecoder().decode(stdout)), 200_000);
  await writing;
  await writer.close();
});

Deno.test("a writer closes although nobody reads what it writes", async () => {
  await using pipe = await fifo();
  const writer = new FifoWriter(pipe.path);
  const writing = writer.write(new Uint8Array(2_000_000));
  await within("the end", writer.close(), 5_000);
  await writing;
  await writer.close();
});

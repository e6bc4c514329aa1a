/** Streams in pieces: signs of life while nothing is there to be sent, and refusals. */
import assert from "node:assert/strict";
import { BLOCK_BYTES, IDLE_TIMEOUT_MS } from "../../net/bulk_messages.ts";
import { nextPiece, PieceWriter, SIGN_MS, SILENCE_MS_MAX } from "../../net/bulk_pieces.ts";
import type { BulkSocket } from "../../net/bulk_socket.ts";
import { RingFlow, sendRing } from "../../net/bulk_stream.ts";
import { FakeTime } from "../support/fake_time.ts";
import { TempDir } from "../support/temp_dir.ts";

const ERROR = { code: "queue_full" as const, message: "8 prompts are under way" };
const u32 = (...values: number[]) => new Uint8Array(Uint32Array.from(values).buffer);

/** Reads what was written to it. */
class Pipe {
  bytes = new Uint8Array();
  /** Called before each read. */
  onRead = () => Promise.resolve();

  writeAll(bytes: Uint8Array): Promise<void> {
    this.bytes = new Uint8Array([...this.bytes, ...bytes]);
    return Promise.resolve();
  }

  async readAll(into: Uint8Array): Promise<boolean> {
    await this.onRead();
    if (this.bytes.length === 0) return false;
    assert.ok(this.bytes.length >= into.length, "cut off");
    into.set(this.bytes.subarray(0, into.length));
    this.bytes = this.bytes.slice(into.length);
    return true;
  }
}

Deno.test("pieces come with their lengths, whatever signs of life come before them", async () => {
  const pipe = new Pipe();
  const writer = new PieceWriter(pipe);
  await writer.send(0);
  await writer.send(0);
  writer.room.set([7, 8]);
  await writer.send(2);
  assert.equal(await nextPiece(pipe), 2);
  const bytes = new Uint8Array(2);
  await pipe.readAll(bytes);
  assert.deepEqual(bytes, Uint8Array.of(7, 8));
  assert.equal(await nextPiece(pipe), undefined);
});

Deno.test("a refusal is an error of the reader, in short words", async () => {
  const pipe = new Pipe();
  await new PieceWriter(pipe).refuse({ ...ERROR, hint: "x".repeat(100_000) });
  await assert.rejects(nextPiece(pipe), (error: typeof ERROR & { hint: string }) => {
    assert.deepEqual([error.code, error.message, error.hint.length], [
      ERROR.code,
      ERROR.message,
      2_000,
    ]);
    return true;
  });
});

for (
  const [name, bytes, found] of [
    ["too long a piece", u32(BLOCK_BYTES + 1), /a piece of 262145 bytes/],
    ["too long a refusal", u32(0xffff_ffff, 1_000_000), /a refusal of 1000000 bytes/],
    ["half a refusal", u32(0xffff_ffff, 100), /ended within a refusal/],
    ["a refusal of another form", u32(0xffff_ffff, 4, 0), /nobody can read/],
  ] as const
) {
  Deno.test(`a stream with ${name} is broken`, async () => {
    const pipe = new Pipe();
    pipe.bytes = bytes;
    await assert.rejects(nextPiece(pipe), found);
  });
}

Deno.test("a stream that gives nothing but signs of life is given up in the end", async () => {
  using time = new FakeTime();
  const pipe = new Pipe();
  let signs = 0;
  pipe.onRead = async () => {
    pipe.bytes = u32(0);
    signs++;
    await time.pass(SIGN_MS);
  };
  await assert.rejects(nextPiece(pipe), { code: "timed_out", message: /nothing came for 300 s/ });
  assert.equal(signs, SILENCE_MS_MAX / SIGN_MS);
});

Deno.test("a stream whose writer computes others' prompts lives meanwhile", async () => {
  await using dir = await TempDir.make();
  const flow = new RingFlow();
  const ring = { path: `${dir.path}/ring`, bytes: 1_000 };
  Deno.writeFileSync(ring.path, Uint8Array.of(7));
  const pipe = new Pipe();
  const ended = Promise.withResolvers<boolean>();
  const socket = {
    readAll: () => ended.promise,
    writeAll: (bytes: Uint8Array) => pipe.writeAll(bytes),
    end: () => Promise.resolve(ended.resolve(false)),
  } as unknown as BulkSocket;
  using time = new FakeTime();
  const sent = sendRing(socket, ring, { flow, tell: () => {} });
  for (let signs = 1; signs * SIGN_MS <= 2 * IDLE_TIMEOUT_MS; signs++) {
    await time.pass(SIGN_MS);
    assert.deepEqual(pipe.bytes, u32(...Array<number>(signs).fill(0)));
  }
  pipe.bytes = new Uint8Array();
  flow.note(1, "done");
  await sent;
  assert.deepEqual(pipe.bytes, Uint8Array.of(1, 0, 0, 0, 7));
});

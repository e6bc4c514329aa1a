import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { openStream } from "../../bench/event_stream.ts";
import { ModelEndpoint } from "./model_endpoint.ts";

const ask = (content: string, max_tokens: number) => ({
  ...{ model: "m", max_tokens },
  messages: [{ role: "user", content }],
});

/** A server that says what it is told to, piece by piece. */
class Mouth implements AsyncDisposable {
  readonly #lines = new TransformStream<string, string>();
  readonly #writer = this.#lines.writable.getWriter();
  readonly #hungUp = Promise.withResolvers<void>();
  readonly #server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
    const body = this.#lines.readable.pipeThrough(new TextEncoderStream());
    return new Response(body);
  });

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** Resolves once nobody listens any more. */
  get hungUp(): Promise<void> {
    this.#writer.closed.catch(() => this.#hungUp.resolve());
    return this.#hungUp.promise;
  }

  async say(...events: readonly string[]): Promise<void> {
    for (const event of events) await this.#writer.write(`data: ${event}\n\n`);
  }

  async end(): Promise<void> {
    await this.#writer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

const piece = (content: string | null) => JSON.stringify({ choices: [{ delta: { content } }] });

Deno.test("openStream() counts and times pieces of text, and takes the server's usage", async () => {
  await using endpoint = new ModelEndpoint();
  const { sentMs, piecesMs, endedMs, usage } = await openStream(endpoint.url, ask("a b", 5)).ended;
  equal(piecesMs.length, 5);
  ok(sentMs <= (piecesMs[0] ?? 0) && (piecesMs[4] ?? Infinity) <= (endedMs ?? 0));
  deepEqual(usage, { promptTokens: 12, cachedTokens: 0, completionTokens: 5 });
  const again = await openStream(endpoint.url, ask("a b", 1)).ended;
  equal(again.usage?.cachedTokens, 12);
});

Deno.test("openStream() takes neither null nor an empty text for a piece", async () => {
  await using mouth = new Mouth();
  const stream = openStream(mouth.url, ask("a", 1));
  await mouth.say(piece(null), piece(""), piece("x"), piece('"y"'));
  await stream.piece(2);
  equal(stream.pieceCount, 2);
  await mouth.say("[DONE]");
  await mouth.end();
  equal((await stream.ended).piecesMs.length, 2);
});

Deno.test("openStream() that is left ends there, with what came", async () => {
  await using mouth = new Mouth();
  const stream = openStream(mouth.url, ask("a", 1));
  await mouth.say(piece("x"));
  await stream.piece(1);
  stream.leave();
  const { piecesMs, endedMs, usage } = await stream.ended;
  deepEqual([piecesMs.length, endedMs, usage], [1, undefined, undefined]);
  await mouth.hungUp;
});

Deno.test("openStream() fails on a refusal, an error amid the answer, and a missing end", async () => {
  await using endpoint = new ModelEndpoint();
  endpoint.refusal = 400;
  await rejects(openStream(endpoint.url, ask("a", 1)).ended, /found "HTTP\/1.1 400/);
  await using struck = new Mouth();
  const broken = openStream(struck.url, ask("a", 1));
  await struck.say(piece("x"), '{"error":{"message":"the runner ended"}}');
  await rejects(broken.ended, /the runner ended/);
  await struck.end().catch(() => {});
  await using short = new Mouth();
  const cut = openStream(short.url, ask("a", 1));
  await short.say(piece("x"));
  await short.end();
  await rejects(cut.ended, /Cannot read an answer: found "", its end needed/);
});

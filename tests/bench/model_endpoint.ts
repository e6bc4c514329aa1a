import { setImmediate } from "node:timers/promises";

/** Words that the endpoint's chat template adds to a prompt. */
const TEMPLATE_TOKENS = 10;

/** A server of one OpenAI route on a port of its own: each word of a prompt is a token. */
export class ModelEndpoint implements AsyncDisposable {
  /** Words of each prompt that was asked. */
  readonly prompts: string[] = [];
  /** The status with which prompts are refused; undefined answers them. */
  refusal: number | undefined;
  /** Whether the pieces of an answer come one by one. */
  isPaced = false;
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => this.#answer(await request.json()),
  );

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  #answer(body: {
    messages: { content: string }[];
    max_completion_tokens?: number;
    max_tokens?: number;
  }): Response {
    if (this.refusal) return new Response("{}", { status: this.refusal });
    const prompt = body.messages[0]?.content ?? "";
    const promptTokens = TEMPLATE_TOKENS + prompt.split(" ").length;
    const isKnown = this.prompts.includes(prompt);
    this.prompts.push(prompt);
    const answerTokens = body.max_completion_tokens ?? body.max_tokens ?? 0;
    const usage = {
      prompt_tokens: promptTokens,
      prompt_tokens_details: { cached_tokens: isKnown ? promptTokens : 0 },
      completion_tokens: answerTokens,
      total_tokens: 0,
    };
    const pieces = Array.from({ length: answerTokens }, () => ({
      choices: [{ delta: { content: "x" } }],
    }));
    const end = { choices: [{ delta: {}, finish_reason: "length" }], usage };
    const lines = [...pieces, end].map((piece) => `data: ${JSON.stringify(piece)}\n\n`);
    return new Response(ReadableStream.from(this.#pieces([...lines, "data: [DONE]\n\n"])));
  }

  /** In one go, or one in each turn of the event loop, so that answers overlap. */
  async *#pieces(lines: readonly string[]): AsyncGenerator<Uint8Array> {
    const encoder = new TextEncoder();
    if (!this.isPaced) return yield encoder.encode(lines.join(""));
    for (const line of lines) {
      yield encoder.encode(line);
      await setImmediate();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

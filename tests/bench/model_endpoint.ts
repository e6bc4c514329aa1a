/** Words that the endpoint's chat template adds to a prompt. */
const TEMPLATE_TOKENS = 10;

/** A server of one OpenAI route on a port of its own: each word of a prompt is a token. */
export class ModelEndpoint implements AsyncDisposable {
  /** Words of each prompt that was asked. */
  readonly prompts: string[] = [];
  /** The status with which prompts are refused; undefined answers them. */
  refusal: number | undefined;
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => this.#answer(await request.json()),
  );

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  #answer(body: { messages: { content: string }[]; max_completion_tokens: number }): Response {
    if (this.refusal) return new Response("{}", { status: this.refusal });
    const prompt = body.messages[0]?.content ?? "";
    this.prompts.push(prompt);
    const usage = {
      prompt_tokens: TEMPLATE_TOKENS + prompt.split(" ").length,
      completion_tokens: body.max_completion_tokens,
      total_tokens: 0,
    };
    const pieces = Array.from({ length: body.max_completion_tokens }, () => ({
      choices: [{ delta: { content: "x" } }],
    }));
    const end = { choices: [{ delta: {}, finish_reason: "length" }], usage };
    const lines = [...pieces, end].map((piece) => `data: ${JSON.stringify(piece)}\n\n`);
    return new Response([...lines, "data: [DONE]\n\n"].join(""));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

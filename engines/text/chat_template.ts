import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { AppError } from "../../core/errors.ts";
import type { ChatMessage } from "../../core/task.ts";

/** What a chat template may speak of beside the messages. */
export interface ChatTemplateOptions {
  readonly bosToken?: string | undefined;
  readonly eosToken?: string | undefined;
}

/** Python's constants, in both of Jinja's spellings. */
const CONSTANTS = { true: true, false: false, none: null, True: true, False: false, None: null };

/** Most numbers that a template may ask for at once. */
const RANGE_MAX = 100_000;

/** Messages to a prompt, by the Jinja template of a model. */
export class ChatTemplate {
  readonly #program: ReturnType<typeof parse>;
  readonly #options: ChatTemplateOptions;

  /** @throws {AppError} `unsupported_model` when the template does not parse. */
  constructor(source: string, options: ChatTemplateOptions = {}) {
    try {
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (error) {
      const what = `the chat template of ${source.length} characters`;
      throw new AppError(
        "unsupported_model",
        `Cannot parse ${what}: ${reason(error)}, a Jinja template needed`,
        {
          hint: "fetch the model again, or mend its chat_template (tokenizer_config.json; " +
            "in a GGUF, tokenizer.chat_template)",
          cause: error,
        },
      );
    }
    this.#options = options;
  }

  /**
   * The prompt for an answer to these messages. System and developer messages go to the front as
   * one; a trailing assistant message is what the answer begins with. The template gets no clock,
   * so that every rank renders the same prompt; templates that can do without use their own date.
   * @throws {AppError} `invalid_request` when the template refuses the messages.
   */
  render(messages: readonly ChatMessage[], variables: Record<string, unknown> = {}): string {
    const { turns, prefill } = arrange(messages);
    try {
      const rendered = new Interpreter(this.#environment({ ...variables, messages: turns }))
        .run(this.#program);
      const prompt = rendered.value;
      if (typeof prompt !== "string") throw new Error("the template gives no text");
      return prompt + prefill;
    } catch (error) {
      throw new AppError("invalid_request", `Cannot build the prompt: ${reason(error)}`, {
        hint: "the model's chat template says so; send user and assistant messages in turns",
        param: "messages",
        cause: error,
      });
    }
  }

  /** The globals of transformers' templates, but for `strftime_now`, which reads the clock. */
  #environment(variables: Record<string, unknown>): Environment {
    const environment = new Environment();
    const all = {
      ...CONSTANTS,
      range,
      raise_exception: raiseException,
      bos_token: this.#options.bosToken ?? "",
      eos_token: this.#options.eosToken ?? "",
      add_generation_prompt: true,
      ...variables,
    };
    for (const [name, value] of Object.entries(all)) environment.set(name, value);
    return environment;
  }
}

/** The numbers that Python's range() has. */
function range(first: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, first] : [first, stop];
  if (!Number.isInteger(step) || step === 0) throw new Error("range() needs a whole step, not 0");
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (length > RANGE_MAX) throw new Error(`range() of ${length} numbers, at most ${RANGE_MAX}`);
  return Array.from({ length }, (_, i) => from + i * step);
}

/** System text first, and what the answer is to begin with apart. */
function arrange(messages: readonly ChatMessage[]): { turns: ChatMessage[]; prefill: string } {
  const isSystem = ({ role }: ChatMessage) => role === "system" || role === "developer";
  const system = messages.filter(isSystem).map(({ content }) => content);
  const others = messages.filter((message) => !isSystem(message));
  const last = others.at(-1);
  const prefill = last?.role === "assistant" ? last.content : "";
  if (last?.role === "assistant") others.pop();
  const head: ChatMessage[] = system.length > 0
    ? [{ role: "system", content: system.join("\n") }]
    : [];
  return { turns: [...head, ...others], prefill };
}

/** What a template says when it refuses the messages. */
function raiseException(message: string): never {
  throw new Error(message);
}

function reason(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/(?<!\.)\.$/, "");
}

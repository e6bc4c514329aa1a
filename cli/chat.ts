import type { ApiClient } from "../api/client.ts";
import type { ChatEvent, ChatInput, Turn } from "../api/client_chat.ts";
import { AppError, ERRORS } from "../core/errors.ts";
import { showAnswer } from "./answer.ts";
import type { Io } from "./io.ts";
import { type Keyboard, keyboardOf } from "./keyboard.ts";
import { type Output, tellError } from "./output.ts";

const PROMPT = "> ";

const HELP = [
  "/clear   forget the conversation so far",
  "/help    show this",
  "/exit    end the chat, as Ctrl-D does",
  "Ctrl-C   stop the answer; at an empty prompt, end the chat",
].join("\n");

/** Whom a chat is with, and how. */
export interface ChatOptions {
  readonly model: string;
  readonly system: string | undefined;
  readonly options: Omit<ChatInput, "model" | "messages">;
  /** The API under a signal of its own, so that one answer can be stopped. */
  readonly connect: (signal: AbortSignal) => ApiClient;
}

/** Where a chat is shown. */
interface Place {
  readonly io: Io;
  readonly out: Output;
}

/** Answers line after line, each with the conversation so far; the exit code comes back. */
export async function chat(options: ChatOptions, { io, out }: Place): Promise<number> {
  using keyboard = keyboardOf(io);
  const conversation = new Conversation(options, { io, out });
  out.note(`Chat with ${options.model}; /help shows what there is, Ctrl-D ends it`);
  for (;;) {
    const entry = await keyboard.ask(PROMPT);
    if (entry.type !== "line") {
      out.note("");
      return entry.type === "interrupt" || io.signal.aborted ? ERRORS.cancelled.exit : 0;
    }
    const text = entry.text.trim();
    if (text === "/exit") return 0;
    if (text === "/help") out.note(HELP);
    else if (text === "/clear") {
      conversation.clear();
      out.note("The conversation is forgotten");
    } else if (/^\/\w*$/.test(text)) out.note(`No command ${text}; /help shows what there is`);
    else if (text !== "") await conversation.say(text, keyboard);
  }
}

/** What was said so far. */
class Conversation {
  readonly #options: ChatOptions;
  readonly #io: Io;
  readonly #out: Output;
  #turns: readonly Turn[] = [];

  constructor(options: ChatOptions, { io, out }: Place) {
    this.#options = options;
    this.#io = io;
    this.#out = out;
    this.clear();
  }

  clear(): void {
    const { system } = this.#options;
    this.#turns = system ? [{ role: "system", content: system }] : [];
  }

  /**
   * Shows the answer to `content`. A question without any answer is as good as never asked; an
   * answer that Ctrl-C cut short is remembered as far as it went.
   * @throws {AppError} when the node is gone or the user ends the command.
   */
  async say(content: string, keyboard: Keyboard): Promise<void> {
    const { model, options, connect } = this.#options;
    const messages: readonly Turn[] = [...this.#turns, { role: "user", content }];
    const stop = new AbortController();
    using _ctrlC = keyboard.onInterrupt(() => stop.abort());
    const client = connect(AbortSignal.any([this.#io.signal, stop.signal]));
    const heard = { text: "" };
    try {
      await showAnswer(overheard(client.chat({ model, messages, ...options }), heard), this.#out);
    } catch (error) {
      this.#recover(error, stop.signal, heard.text);
    }
    if (heard.text === "") return;
    this.#turns = [...messages, { role: "assistant", content: heard.text }];
  }

  /** Goes on after what ends an answer but not the chat. */
  #recover(error: unknown, stopped: AbortSignal, heard: string): void {
    const isFatal = !(error instanceof AppError) || error.code === "node_unreachable" ||
      this.#io.signal.aborted;
    if (isFatal) throw error;
    if (heard !== "" && !heard.endsWith("\n")) this.#out.text("\n");
    if (stopped.aborted) this.#out.note("Stopped");
    else {
      this.#out.endProgress();
      tellError(error, this.#io);
    }
  }
}

/** The same events, with their text kept. */
async function* overheard(
  events: AsyncIterable<ChatEvent>,
  heard: { text: string },
): AsyncGenerator<ChatEvent> {
  for await (const event of events) {
    if (event.type === "text") heard.text += event.text;
    yield event;
  }
}

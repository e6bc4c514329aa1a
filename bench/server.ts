/** A server with the model in memory, or on its way there. */
export interface RunningServer {
  /** Address without `/v1`. */
  readonly url: string;
  /** The model's name in requests. */
  readonly model: string;
  /** When it was told to load the model, on the clock of `performance.now()`. */
  readonly loadStartedAt: number;
  /** From then until it said that it is ready, in milliseconds; null where it does not say. */
  readonly loadMs: number | null;
  /** Parts of the load by name, in milliseconds; empty where it does not tell them. */
  readonly loadPartsMs: Readonly<Record<string, number>>;
  /** Its processes by what they do; the one that holds the weights is `model`. */
  readonly pids: Readonly<Record<string, number>>;
  stop(): Promise<void>;
}

/** A program that serves a model at an OpenAI-compatible endpoint: exo, or one of its peers. */
export interface ModelServer {
  readonly name: string;
  /** As the program itself says it. */
  readonly version: string;
  /** In which settings it runs, and why, for the report. */
  readonly settings: string;
  /** Starts it and lets it load the model; resolves when requests are taken. */
  start(): Promise<RunningServer>;
}

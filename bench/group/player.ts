import type { VirtualNetwork } from "../netns.ts";
import type { Setting } from "../setting.ts";
import type { Layout } from "./layout.ts";

/** Programs that run a model over several machines. */
export const PROGRAMS = ["exo", "llama.cpp"] as const;
/** One of them. */
export type Program = (typeof PROGRAMS)[number];

/** A server that answers, with the model spread as its layout says. */
export interface RunningGroup {
  /** Address without `/v1`, on this side of the network. */
  readonly url: string;
  readonly model: string;
  stop(): Promise<void>;
}

/** A program in one layout, which takes turns with others. */
export interface Player {
  readonly program: Program;
  readonly layout: Layout;
  start(): Promise<RunningGroup>;
}

/** What players are started with. */
export interface Stage {
  readonly network: VirtualNetwork;
  readonly setting: Setting;
  readonly modelPath: string;
  /** Of the layouts that are of a small model. */
  readonly smallModelPath: string;
  /** Threads of each machine. */
  readonly threads: number;
  /** Requests at once. */
  readonly streams: number;
  readonly contextTokens: number;
}

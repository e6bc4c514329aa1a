import type { Processes, RunProgram } from "../processes.ts";
import type { ModelServer } from "../server.ts";

/** Names of the programs that exo can be compared with. */
export const PEER_NAMES = ["mlx-lm", "llama.cpp"] as const;
/** A program that exo can be compared with. */
export type PeerName = (typeof PEER_NAMES)[number];

/** What an installation is given. */
export interface InstallContext {
  /** Folder of all peers; each makes its own in it. Exists. */
  readonly folder: string;
  readonly run: RunProgram;
  readonly onProgress: (line: string) => void;
}

/** How the model is to be served. */
export interface ServeOptions {
  readonly processes: Processes;
  /** A GGUF file. */
  readonly modelPath: string;
  readonly threads: number;
  /** Requests that are answered at once. */
  readonly parallel: number;
  /** Tokens of prompt and answer that a request may have. */
  readonly contextTokens: number;
  /** Whether the server's cache of prompts is on, where it has one; absent: off. */
  readonly cachesPrompts?: boolean;
  /** Environment of the server's process. */
  readonly env: Readonly<Record<string, string>>;
  /** Folder for files that go when the benchmark ends. */
  readonly scratch: string;
  /** Folder for logs, which stay. */
  readonly logs: string;
}

/** A program that serves models, which this benchmark can fetch and build. */
export interface Peer {
  readonly name: PeerName;
  /** Fetches and builds it, unless it is there. @throws {AppError} `setup_failed`. */
  install(context: InstallContext): Promise<InstalledPeer>;
}

/** A peer that is ready to serve. */
export interface InstalledPeer {
  /** As the program itself says it. */
  readonly version: string;
  server(options: ServeOptions): Promise<ModelServer>;
}

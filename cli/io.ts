/** Somewhere to write text. */
export interface Sink {
  write(text: string): void;
  readonly isTerminal: boolean;
  /** Characters of a line; 80 where nobody knows. */
  readonly columns: number;
}

/** The world as a command sees it, so that tests can be the world. */
export interface Io {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly stdin: {
    readonly isTerminal: boolean;
    /** Everything up to the end of the input. */
    readText(): Promise<string>;
  };
  /** Aborted when the user interrupts. */
  readonly signal: AbortSignal;
  readonly cwd: string;
  readonly home: string;
  /** As `Deno.build.os` names it. */
  readonly os: string;
  /** Text of a file; undefined when it cannot be read. */
  readFile(path: string): string | undefined;
}

/** The real world. */
export function systemIo(signal: AbortSignal): Io {
  const env = Deno.env.toObject();
  return {
    env,
    stdout: sinkOf(Deno.stdout),
    stderr: sinkOf(Deno.stderr),
    stdin: {
      isTerminal: Deno.stdin.isTerminal(),
      readText: () => new Response(Deno.stdin.readable).text(),
    },
    signal,
    get cwd() {
      return Deno.cwd();
    },
    home: env["HOME"] ?? env["USERPROFILE"] ?? "/",
    os: Deno.build.os,
    readFile(path) {
      try {
        return Deno.readTextFileSync(path);
      } catch {
        return undefined;
      }
    },
  };
}

function sinkOf(file: typeof Deno.stdout): Sink {
  const encoder = new TextEncoder();
  const isTerminal = file.isTerminal();
  return {
    isTerminal,
    get columns() {
      // A terminal that nobody sized says 0.
      return (isTerminal && Deno.consoleSize().columns) || 80;
    },
    write(text) {
      let bytes = encoder.encode(text);
      while (bytes.length > 0) bytes = bytes.subarray(file.writeSync(bytes));
    },
  };
}

import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { getRotatingFileSink } from "@logtape/file";
import {
  configure,
  getJsonLinesFormatter,
  getLogger,
  getTextFormatter,
  type Logger,
  type LogLevel,
  type Sink as LogSink,
} from "@logtape/logtape";
import type { Sink } from "./io.ts";

/** How much is logged, how, and where to. */
export interface LogOptions {
  readonly level: Extract<LogLevel, "debug" | "info" | "warning">;
  readonly format: "text" | "json";
  readonly sink: Sink;
  /** Also written here, in the same form, and rotated. */
  readonly file?: string | undefined;
}

/** Size at which a log file is rotated, and how many are kept. */
const FILE_BYTES_MAX = 10 * 1024 * 1024;
const FILES_MAX = 5;

/** Sends the log of this process to `sink`; the logger of the command line comes back. */
export async function configureLogs(options: LogOptions): Promise<Logger> {
  const { level, format, sink, file } = options;
  const formatter = format === "json" ? getJsonLinesFormatter() : getTextFormatter();
  const write = (record: Parameters<typeof formatter>[0]) => {
    const line = formatter(record);
    sink.write(line.endsWith("\n") ? line : `${line}\n`);
  };
  const fileSink = openFile(file, formatter);
  await configure({
    reset: true,
    sinks: { out: write, ...fileSink },
    loggers: [
      { category: ["exo"], lowestLevel: level, sinks: ["out", ...Object.keys(fileSink)] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["out"] },
    ],
  });
  const log = getLogger(["exo", "cli"]);
  if (file !== undefined && !fileSink.file) log.warn("cannot write the log file {file}", { file });
  return log;
}

type Formatter = ReturnType<typeof getTextFormatter>;

/** The sinks that a file needs: none, when it cannot be written; the node goes on without it. */
function openFile(file: string | undefined, formatter: Formatter): Record<string, LogSink> {
  if (file === undefined) return {};
  const limits = { maxSize: FILE_BYTES_MAX, maxFiles: FILES_MAX };
  try {
    // It may be the first to make the data directory, which is nobody else's.
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    // Unbuffered: the last lines before a crash are those that are needed.
    return { file: getRotatingFileSink(file, { formatter, bufferSize: 0, ...limits }) };
  } catch {
    return {};
  }
}

import {
  configure,
  getJsonLinesFormatter,
  getLogger,
  getTextFormatter,
  type Logger,
  type LogLevel,
} from "@logtape/logtape";
import type { Sink } from "./io.ts";

/** How much is logged, how, and where to. */
export interface LogOptions {
  readonly level: Extract<LogLevel, "debug" | "info" | "warning">;
  readonly format: "text" | "json";
  readonly sink: Sink;
}

/** Sends the log of this process to `sink`; the logger of the command line comes back. */
export async function configureLogs({ level, format, sink }: LogOptions): Promise<Logger> {
  const formatter = format === "json" ? getJsonLinesFormatter() : getTextFormatter();
  const write = (record: Parameters<typeof formatter>[0]) => {
    const line = formatter(record);
    sink.write(line.endsWith("\n") ? line : `${line}\n`);
  };
  await configure({
    reset: true,
    sinks: { out: write },
    loggers: [
      { category: ["exo"], lowestLevel: level, sinks: ["out"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["out"] },
    ],
  });
  return getLogger(["exo", "cli"]);
}

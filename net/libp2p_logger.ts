import type { ComponentLogger, Logger } from "@libp2p/interface";

/**
 * For libp2p, whose words nobody reads: what matters to a user is told where it is noticed. Only that
 * a stream had more to write than it may hold is told nowhere else; `onFull` hears of that.
 */
export function silentLogger(onFull: () => void = () => {}): ComponentLogger {
  const isFull = (word: unknown) => word instanceof Error && word.name === "StreamBufferError";
  const logger = Object.assign(() => {}, {
    enabled: false,
    error: (...words: unknown[]) => {
      if (words.some(isFull)) onFull();
    },
    trace: () => {},
    newScope: () => logger,
  }) as Logger;
  return { forComponent: () => logger };
}

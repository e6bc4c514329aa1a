import type { ComponentLogger, Logger } from "@libp2p/interface";

/** For libp2p, whose words nobody reads: what matters to a user is told where it is noticed. */
export function silentLogger(): ComponentLogger {
  const logger = Object.assign(() => {}, {
    enabled: false,
    error: () => {},
    trace: () => {},
    newScope: () => logger,
  }) as Logger;
  return { forComponent: () => logger };
}

/** How often the event loop is asked to come by. */
const LOOK_MS = 2;

/** Runs `work`; the longest that the event loop of this thread was late meanwhile, in ms. */
export async function lagDuring(work: () => Promise<void>): Promise<number> {
  let [lagMs, due] = [0, performance.now() + LOOK_MS];
  const look = () => {
    const now = performance.now();
    lagMs = Math.max(lagMs, now - due);
    due = now + LOOK_MS;
  };
  const timer = setInterval(look, LOOK_MS);
  try {
    await work();
    look();
  } finally {
    clearInterval(timer);
  }
  return lagMs;
}

/** Things of a kind that one message lists; the rest is counted. */
const LISTED_MAX = 4;

/** Some of a kind, and how many more there are. */
export function listed(all: readonly string[], separator = "; "): string {
  const more = all.length - LISTED_MAX;
  const shown = all.slice(0, LISTED_MAX).join(separator);
  return more > 0 ? `${shown}${separator}and ${more} more` : shown;
}

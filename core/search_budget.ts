/** Steps that one search may take, so that no topology holds a master up. */
export const SEARCH_STEPS_MAX = 25_000;

/** Part of what is left that one of several further searches may take. */
const SHARE_MIN = 1 / 8;

/** Steps of a search that may be divided over searches in it. */
export interface Budget {
  left: number;
  /** Whether something was left out for want of steps. */
  isExhausted: boolean;
}

/** A budget of its own. */
export function newBudget(left = SEARCH_STEPS_MAX): Budget {
  return { left, isExhausted: false };
}

/** Runs a search with its share of a budget, `remaining` searches still to come with it. */
export function withShare<T>(budget: Budget, remaining: number, search: (share: Budget) => T): T {
  const steps = Math.floor(budget.left * Math.max(SHARE_MIN, 1 / remaining));
  const share = newBudget(steps);
  const found = search(share);
  budget.left -= steps - Math.max(0, share.left);
  budget.isExhausted ||= share.isExhausted;
  return found;
}

/** Takes some steps; false, and the budget is exhausted, where there are none left. */
export function spend(budget: Budget, steps = 1): boolean {
  if (budget.left <= 0) {
    budget.isExhausted = true;
    return false;
  }
  budget.left -= steps;
  return true;
}

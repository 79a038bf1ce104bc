// How long the page waits before it connects again: longer after each failure, and a random part of it. When a server
// restarts, all its clients are disconnected at the same time; the random part spreads their returns.

export const FIRST_MS = 500;
export const LONGEST_MS = 15_000;

/** The wait after this many failures in a row (1 or more). `random` is from 0 to 1. */
export function delayMs(failures, random) {
  const longest = Math.min(FIRST_MS * 2 ** (failures - 1), LONGEST_MS);
  return longest / 2 + (longest / 2) * random;
}

// When a login ends, and when the page asks for the password to continue it. The server has no other way to renew a token
// of its own; the page keeps no password.

import { claimsIn } from "./token.js";

/** The page asks this long before the end, or a sixth of the lifetime of the token if that is shorter. */
const ASK_BEFORE_MS = 10 * 60 * 1000;
/** Timers of browsers are not longer than this: 24.8 days. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/**
 * When to ask and when the token ends, by the clock of this browser: `{ askAt, endsAt }`. Null if the token does not say
 * how long it is valid. The clock of the server can differ, so only the lifetime is taken from the token.
 */
export function lifetime(token, now) {
  const { iat, exp } = claimsIn(token) ?? {};
  const lifetimeMs = (exp - iat) * 1000;
  if (!(lifetimeMs > 0)) return null;
  const endsAt = now + lifetimeMs;
  return { askAt: endsAt - Math.min(ASK_BEFORE_MS, lifetimeMs / 6), endsAt };
}

/** Calls `onDue` when it is time to ask. */
export class RenewalTimer {
  #timer = null;
  #environment;

  /** @param environment `setTimeout`, `clearTimeout`, and `now`: the time of the day */
  constructor(environment) {
    this.#environment = environment;
  }

  start(askAt, onDue) {
    this.stop();
    const leftMs = askAt - this.#environment.now();
    if (leftMs <= 0) return onDue();
    const again = () => this.start(askAt, onDue);
    this.#timer = this.#environment.setTimeout(again, Math.min(leftMs, TIMER_MS_MAX));
  }

  stop() {
    this.#environment.clearTimeout(this.#timer);
  }
}

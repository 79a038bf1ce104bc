// Reads new messages to users of screen readers. The list of messages is no live region itself: it would also read
// earlier messages, and each join of a burst.

/** Messages within this time are announced together. */
const COLLECT_MS = 1_000;
/** More messages than this at once are counted, not read. */
const READ_MAX = 3;

export class Announcer {
  #region;
  #waiting = [];

  constructor(region) {
    this.#region = region;
  }

  announce(from, text) {
    this.#waiting.push(`${from}: ${text}`);
    if (this.#waiting.length === 1) setTimeout(() => this.#read(), COLLECT_MS);
  }

  #read() {
    const count = this.#waiting.length;
    this.#region.textContent = count > READ_MAX ? `${count} new messages` : this.#waiting.join("\n");
    this.#waiting = [];
  }
}

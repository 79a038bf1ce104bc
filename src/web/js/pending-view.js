// Renders the messages that the lobby has not confirmed yet, below the timeline. A row stays the same element until it
// has to look different, so that the focus and a selection stay.

import { pendingElement } from "./message-row.js";

/** Most messages are confirmed within this time. Only later ones say that they are not sent yet. */
const LATE_MS = 1_000;

export class PendingView {
  #list;
  #username;
  #actions;
  #onLate;
  /** For each id of a message: `{ row, look, since }`. */
  #shown = new Map();

  /** `actions`: what the buttons of a refused message do. `onLate()`: a message is late, so `render` is due. */
  constructor(list, username, actions, onLate) {
    this.#list = list;
    this.#username = username;
    this.#actions = actions;
    this.#onLate = onLate;
    list.replaceChildren();
  }

  /** `followsOwn`: the last entry of the timeline is a message of this user. */
  render(messages, followsOwn) {
    const ids = new Set(messages.map(({ id }) => id));
    for (const [id, { row }] of this.#shown) {
      if (ids.has(id)) continue;
      row.remove();
      this.#shown.delete(id);
    }
    messages.forEach((message, index) => this.#renderMessage(message, index === 0 && !followsOwn));
  }

  /** New messages come last, so the order of the rows does not change. */
  #renderMessage(message, startsGroup) {
    const shown = this.#shown.get(message.id);
    const since = shown?.since ?? performance.now();
    if (!shown) setTimeout(this.#onLate, LATE_MS);
    const look = { startsGroup, isLate: performance.now() - since >= LATE_MS, problem: message.problem };
    if (shown && JSON.stringify(shown.look) === JSON.stringify(look)) return;
    const row = pendingElement(message, this.#username, look, this.#actions);
    if (shown) shown.row.replaceWith(row);
    else this.#list.append(row);
    this.#shown.set(message.id, { row, look, since });
  }
}

// Counts the messages that the user has not seen: in the title of the tab while another tab is in front, and on the
// button that leads to the newest message while the list is scrolled up.

import { byId } from "./dom.js";

const TITLE = document.title;

export class Unread {
  #whileHidden = 0;
  #below = 0;

  /** A message of somebody else has come. Returns whether it is the first one since the user looked at the page. */
  add(isAtEnd) {
    if (document.hidden) this.#whileHidden += 1;
    if (!isAtEnd) this.#below += 1;
    this.#show();
    return document.hidden && this.#whileHidden === 1;
  }

  /** The user looks at the page. */
  pageSeen() {
    this.#whileHidden = 0;
    this.#show();
  }

  render(isAtEnd) {
    if (isAtEnd) this.#below = 0;
    const button = byId("latest");
    button.hidden = isAtEnd;
    const text = this.#below === 0 ? "Newest messages" : `${this.#below} new`;
    if (button.textContent !== text) button.textContent = text;
  }

  #show() {
    const title = this.#whileHidden === 0 ? TITLE : `(${this.#whileHidden}) ${TITLE}`;
    if (document.title !== title) document.title = title;
  }
}

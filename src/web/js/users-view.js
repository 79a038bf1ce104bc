// Renders the list of users. Only the rows that are visible exist, so that 10,000 names cost no more than 20.

import { avatar } from "./avatar.js";
import { element, nameElement } from "./dom.js";

/** Rows above and below the visible ones, for scrolling. */
const EXTRA_ROWS = 8;

export class UsersView {
  #parts;
  #ownName;
  #names = [];

  /** `parts`: the elements `scroller`, `rows`, `filter`, `nobody`, and `counts`, which show the number of users. */
  constructor(parts, ownName, onScroll) {
    this.#parts = parts;
    this.#ownName = ownName;
    parts.filter.value = "";
    parts.filter.oninput = onScroll;
    parts.scroller.onscroll = onScroll;
  }

  /** Shows these users. Called at most once per frame. */
  render(users) {
    const { scroller, rows, filter, nobody, counts } = this.#parts;
    const count = users.size.toLocaleString();
    for (const shown of counts) if (shown.textContent !== count) shown.textContent = count;
    this.#names = users.matching(filter.value);
    nobody.hidden = this.#names.length > 0 || filter.value === "";
    const rowHeight = 2.75 * parseFloat(getComputedStyle(document.documentElement).fontSize);
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - EXTRA_ROWS);
    const visible = Math.ceil(scroller.clientHeight / rowHeight) + 2 * EXTRA_ROWS;
    const names = this.#names.slice(first, first + visible);
    // `style` attributes are forbidden by the policy of the page; this is not one.
    rows.style.height = `${this.#names.length * rowHeight}px`;
    rows.style.paddingTop = `${first * rowHeight}px`;
    names.forEach((name, index) => this.#renderRow(index, name, first + index));
    while (rows.childElementCount > names.length) rows.lastElementChild.remove();
  }

  #renderRow(index, name, position) {
    const { rows } = this.#parts;
    let row = rows.children[index];
    if (row?.dataset.name !== name) {
      const made = element("li", { title: name }, avatar(name), nameElement(name));
      made.dataset.name = name;
      if (name === this.#ownName) made.append(element("span", { className: "small" }, "you"));
      if (row) row.replaceWith(made);
      else rows.append(made);
      row = made;
    }
    row.ariaSetSize = this.#names.length;
    row.ariaPosInSet = position + 1;
  }
}

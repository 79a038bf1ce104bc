// Renders the timeline: compares the entries that it shows with those that there are, and changes the difference.

import { entryElement } from "./message-row.js";

/** Entries that are made in one frame, so that 1,000 missed messages do not block the page. */
const ENTRIES_PER_FRAME = 150;
/** The list follows new messages if it is scrolled to within this distance of its end, in pixels. */
const AT_END_PX = 80;

export class TimelineView {
  #parts;
  #timeline;
  #texts;
  #rows = new Map();
  #first = 0;
  #last = -1;
  /** The positions of the entries are those after this many moves. */
  #moves = 0;
  #isAtEnd = true;
  /** The day of the last `render`. */
  #today;
  /** The height of the content after the last `render`. */
  #height = 0;

  /** `parts`: the elements `scroller` and `list`. `onScroll()`: the user scrolls. */
  constructor(parts, timeline, texts, onScroll) {
    this.#parts = parts;
    this.#timeline = timeline;
    this.#texts = texts;
    this.#today = texts.dayKey(Date.now());
    parts.list.replaceChildren();
    parts.scroller.onscroll = () => {
      this.#isAtEnd = this.#distanceToEnd() < AT_END_PX;
      onScroll();
    };
    // The keyboard of a phone, or a rotation, changes the height.
    this.resized = new ResizeObserver(() => this.#isAtEnd && this.scrollToEnd());
    this.resized.observe(parts.scroller);
  }

  get isAtEnd() {
    return this.#isAtEnd;
  }

  get isAtStart() {
    return this.#parts.scroller.scrollTop < AT_END_PX;
  }

  stop() {
    this.resized.disconnect();
  }

  /** Shows the entries. Returns false if another frame is needed to show all of them. */
  render() {
    const { scroller, list } = this.#parts;
    const wasAtEnd = this.#isAtEnd;
    const fromEnd = scroller.scrollHeight - scroller.scrollTop;
    const isMoved = this.#moves !== this.#timeline.moves;
    if (isMoved) this.#renderAll(list);
    const isOlderAdded = isMoved || this.#first > this.#timeline.first;
    this.#removeOldest();
    this.#renderChanged();
    this.#renderDays();
    this.#prepend(list);
    const isComplete = this.#append(list);
    // Without a change of the content, the user is scrolling: do not interfere.
    if (wasAtEnd && scroller.scrollHeight !== this.#height) this.scrollToEnd();
    else if (isOlderAdded) scroller.scrollTop = scroller.scrollHeight - fromEnd;
    this.#height = scroller.scrollHeight;
    return isComplete;
  }

  scrollToEnd() {
    const { scroller } = this.#parts;
    scroller.scrollTop = scroller.scrollHeight;
    this.#isAtEnd = true;
  }

  #distanceToEnd() {
    const { scroller } = this.#parts;
    return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  }

  /** Makes all rows again, at once: this is rare. */
  #renderAll(list) {
    this.#moves = this.#timeline.moves;
    this.#timeline.takeChanged();
    this.#rows.clear();
    list.replaceChildren();
    this.#first = this.#timeline.last + 1;
    this.#last = this.#timeline.last;
  }

  #removeOldest() {
    for (; this.#first < this.#timeline.first; this.#first += 1) {
      this.#rows.get(this.#first)?.remove();
      this.#rows.delete(this.#first);
    }
    this.#last = Math.max(this.#last, this.#first - 1);
  }

  #renderChanged() {
    for (const position of this.#timeline.takeChanged()) {
      const shown = this.#rows.get(position);
      if (shown) shown.replaceWith(this.#make(position));
    }
  }

  /** After midnight, "Today" is "Yesterday". */
  #renderDays() {
    const today = this.#texts.dayKey(Date.now());
    if (today === this.#today) return;
    this.#today = today;
    for (const [position, row] of this.#rows) {
      if (this.#timeline.at(position).startsDay) row.replaceWith(this.#make(position));
    }
  }

  #prepend(list) {
    const made = document.createDocumentFragment();
    for (let position = this.#timeline.first; position < this.#first; position += 1) made.append(this.#make(position));
    list.prepend(made);
    this.#first = Math.min(this.#first, this.#timeline.first);
  }

  #append(list) {
    const last = Math.min(this.#timeline.last, this.#last + ENTRIES_PER_FRAME);
    const made = document.createDocumentFragment();
    for (let position = this.#last + 1; position <= last; position += 1) made.append(this.#make(position));
    list.append(made);
    this.#last = last;
    return last === this.#timeline.last;
  }

  #make(position) {
    const row = entryElement(this.#timeline.at(position), this.#texts);
    this.#rows.set(position, row);
    return row;
  }
}

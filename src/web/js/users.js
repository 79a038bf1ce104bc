// The users who are online, in alphabetical order.

import { sortKey } from "./names.js";

export class OnlineUsers {
  /** `{ name, key }`, sorted by key and then by name. */
  #sorted = [];
  #names = new Set();

  get size() {
    return this.#sorted.length;
  }

  replace(names) {
    this.#names = new Set(names);
    this.#sorted = Array.from(this.#names, entry).sort(compare);
  }

  add(name) {
    if (this.#names.has(name)) return;
    this.#names.add(name);
    const added = entry(name);
    this.#sorted.splice(this.#indexOf(added), 0, added);
  }

  remove(name) {
    if (this.#names.delete(name)) this.#sorted.splice(this.#indexOf(entry(name)), 1);
  }

  /** The names that contain this text, without regard to case and accents. */
  matching(text) {
    const key = sortKey(text.trim());
    const found = key ? this.#sorted.filter((user) => user.key.includes(key)) : this.#sorted;
    return found.map((user) => user.name);
  }

  /** The index of the first user who is not before this one. */
  #indexOf(user) {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compare(this.#sorted[middle], user) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function entry(name) {
  return { name, key: sortKey(name) };
}

function compare(a, b) {
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return a.name < b.name ? -1 : Number(a.name > b.name);
}

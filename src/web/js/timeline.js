// What the list of messages shows: messages, groups of joins and leaves, and notes, each once and in the order of the
// lobby. Pure data; timeline-view.js renders it.
//
// Each entry has a position that it keeps: 0 for the first one that came, larger numbers after it and smaller ones
// before it. So a view can compare what it shows with what there is. Only a filled gap moves entries.

import { PresenceGroup } from "./presence.js";

/** Entries at most. When there are more, the oldest ones are removed. */
export const ENTRIES_MAX = 3_000;
const GAP = "Some messages are missing here.";
/** Messages of one user within this time stand under one name. */
const SAME_SENDER_MS = 5 * 60 * 1000;

export class Timeline {
  #entries = new Map();
  #shownIds = new Set();
  #changed = new Set();
  #dayKey;
  /** The positions of the first and of the last entry. Without entries, `last` is less than `first`. */
  first = 0;
  last = -1;
  /** How many times entries have moved to other positions. */
  moves = 0;
  /** A client that returns asks for the messages after the one with this id. Null: none is known. */
  lastId = null;

  /** `dayKey(at)`: equal for times of one day. */
  constructor(dayKey) {
    this.#dayKey = dayKey;
  }

  at(position) {
    return this.#entries.get(position);
  }

  /** The positions of entries that have changed since the last call. */
  takeChanged() {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }

  /** The id of the oldest message that is shown, or null. */
  get oldestId() {
    return this.#shownIds.values().next().value ?? null;
  }

  get endsWithOwn() {
    return this.#entries.get(this.last)?.isOwn ?? false;
  }

  get hasRoomForOlder() {
    return this.#entries.size < ENTRIES_MAX;
  }

  /** Appends a message `{ id, from, text, at, isOwn }`. Returns false if it is shown already. */
  addMessage(message) {
    this.lastId = message.id;
    if (this.#shownIds.has(message.id)) return false;
    this.#shownIds.add(message.id);
    this.#append({ kind: "message", ...message });
    return true;
  }

  /**
   * Appends the messages that the server sends when a client joins. If the server did not have all that a client had
   * missed, a note says so, unless the messages overlap with those that are shown. `idBefore`: the id of the last message
   * before the join, or undefined. Returns `{ gap, added }`: the gap, for `fillGap`, or null; and the messages that the
   * client has missed, none if it joins the first time.
   */
  addMissed(messages, isComplete, idBefore) {
    const isFirstJoin = this.lastId === null;
    const isGap = !isComplete && !isFirstJoin && !messages.some(({ id }) => this.#shownIds.has(id));
    const gap = isGap ? { kind: "note", text: GAP, lastKnown: this.lastId, before: messages[0]?.id ?? null } : null;
    if (gap !== null) this.#append(gap);
    const added = messages.filter((message) => this.addMessage(message));
    this.lastId ??= idBefore ?? null;
    return { gap, added: isFirstJoin ? [] : added };
  }

  /** A line stands before this message: the user has not seen it and those after it. There is one such line. */
  markUnread(id) {
    for (let position = this.first; position <= this.last; position += 1) {
      const entry = this.#entries.get(position);
      const startsUnread = entry.id === id;
      if (startsUnread === Boolean(entry.startsUnread)) continue;
      entry.startsUnread = startsUnread;
      this.#relate(position);
      this.#changed.add(position);
    }
  }

  /** Adds messages behind a gap, the newest first. If none is missing any more, the note about the gap is removed. */
  fillGap(gap, messages, isClosed) {
    const entries = [];
    for (let position = this.first; position <= this.last; position += 1) entries.push(this.#entries.get(position));
    const at = entries.indexOf(gap);
    if (at === -1) return;
    const found = messages.filter(({ id }) => !this.#shownIds.has(id)).reverse();
    entries.splice(isClosed ? at : at + 1, isClosed ? 1 : 0, ...found.map((message) => ({ kind: "message", ...message })));
    entries.splice(0, entries.length - ENTRIES_MAX);
    this.first = this.last + 1 - entries.length;
    this.#entries = new Map(entries.map((entry, index) => [this.first + index, entry]));
    this.#shownIds = new Set(entries.filter(({ kind }) => kind === "message").map(({ id }) => id));
    for (let position = this.first; position <= this.last; position += 1) this.#relate(position);
    this.moves += 1;
  }

  /** Adds a join or a leave to the group at the end. */
  addPresence(name, change, at) {
    const last = this.#entries.get(this.last);
    if (last?.kind === "presence" && last.group.hasRoom(at)) {
      last.group.add(name, change);
      this.#changed.add(this.last);
      return;
    }
    const group = new PresenceGroup(at);
    group.add(name, change);
    this.#append({ kind: "presence", group, at });
  }

  /** Adds older messages before all others. The newest of them comes first, as in the answer of the server. */
  addOlder(messages) {
    const older = messages.filter(({ id }) => !this.#shownIds.has(id));
    this.#shownIds = new Set([...older.map(({ id }) => id).reverse(), ...this.#shownIds]);
    for (const message of older) {
      this.first -= 1;
      this.#entries.set(this.first, { kind: "message", ...message });
    }
    // What an entry looks like depends on the one before it.
    for (let position = this.first; position <= Math.min(this.first + older.length, this.last); position += 1) {
      this.#relate(position);
    }
    this.#changed.add(this.first + older.length);
  }

  #append(entry) {
    this.#entries.get(this.last)?.group?.close();
    this.last += 1;
    this.#entries.set(this.last, entry);
    this.#relate(this.last);
    if (this.#entries.size > ENTRIES_MAX) this.#removeOldest();
  }

  #removeOldest() {
    this.#shownIds.delete(this.#entries.get(this.first).id);
    this.#entries.delete(this.first);
    this.first += 1;
    this.#relate(this.first);
    this.#changed.add(this.first);
  }

  /** Compares an entry with the one before it: `startsDay`, and `startsGroup` for a message. */
  #relate(position) {
    const entry = this.#entries.get(position);
    if (entry.kind === "note") return;
    const before = this.#entries.get(position - 1);
    // A note has no time. A clock may have been set back: then no day begins.
    const isLater = before?.at === undefined || this.#dayKey(entry.at) > this.#dayKey(before.at);
    entry.startsDay = isLater && before?.kind !== "note";
    entry.startsGroup =
      entry.startsDay ||
      entry.startsUnread ||
      before.kind !== "message" ||
      before.from !== entry.from ||
      entry.at - before.at > SAME_SENDER_MS;
  }
}

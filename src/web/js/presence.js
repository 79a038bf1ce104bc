// Joins and leaves that follow each other, told in one line. A burst of 2,000 joins is one line, too.

/** Names in one group at most, so that a group stays small. */
export const NAMES_MAX = 5_000;
/** A group ends after this time, so that it says roughly when the users came. */
export const GROUP_MS = 10 * 60 * 1000;
/** Names that the line has before "others". */
const NAMES_SHOWN = 3;

export class PresenceGroup {
  /** The first and the last thing that each user did. */
  #changes = new Map();
  #beganAt;
  #finalParts = null;

  constructor(at) {
    this.#beganAt = at;
  }

  hasRoom(at) {
    return this.#finalParts === null && this.#changes.size < NAMES_MAX && at - this.#beganAt < GROUP_MS;
  }

  /** Nobody will be added: only the names that the line has are kept. */
  close() {
    this.#finalParts = this.parts();
    this.#changes.clear();
  }

  /** `change` is "joined" or "left". */
  add(name, change) {
    const first = this.#changes.get(name)?.first ?? change;
    this.#changes.set(name, { first, last: change });
  }

  /** The parts of the line: `{ names, others, did }`, such as `{ names: ["Ann"], others: 0, did: "joined" }`. */
  parts() {
    if (this.#finalParts !== null) return this.#finalParts;
    const kinds = [
      ["joined", "joined", "joined"],
      ["left", "left", "left"],
      ["joined", "left", "joined and left"],
      ["left", "joined", "left and came back"],
    ];
    return kinds.flatMap(([first, last, did]) => {
      const names = [];
      let count = 0;
      for (const [name, change] of this.#changes) {
        if (change.first !== first || change.last !== last) continue;
        count += 1;
        if (names.length < NAMES_SHOWN) names.push(name);
      }
      return count > 0 ? [{ names, others: count - names.length, did }] : [];
    });
  }
}

// The login of this tab, the messages that the lobby has not confirmed yet, and the draft of the next one. They survive a
// reload of the page and end with the tab (`sessionStorage`).

const SESSION = "ich.session";
const PENDING = "ich.pending";
const DRAFT = "ich.draft";

export class SessionStore {
  #storage;

  constructor(storage) {
    this.#storage = storage;
  }

  /** What `save` got, or null. */
  load() {
    const session = this.#read(SESSION);
    return typeof session?.token === "string" && typeof session.username === "string" ? session : null;
  }

  /** `session`: `{ token, username }`, and what else belongs to it. */
  save(session) {
    this.#write(SESSION, session);
  }

  /** The messages that this user wrote. Another user who logs in here does not send them. */
  loadPending(username) {
    const pending = this.#read(PENDING);
    return pending?.username === username && Array.isArray(pending.messages) ? pending.messages : [];
  }

  savePending(username, messages) {
    this.#write(PENDING, { username, messages });
  }

  /** What this user has written and not sent, or an empty text. */
  loadDraft(username) {
    const draft = this.#read(DRAFT);
    return draft?.username === username && typeof draft.text === "string" ? draft.text : "";
  }

  saveDraft(username, text) {
    this.#write(DRAFT, { username, text });
  }

  /** The token is over. The user can log in again and send the messages. */
  endSession() {
    this.#storage.removeItem(SESSION);
  }

  /** The user logs out. */
  clear() {
    this.endSession();
    this.#storage.removeItem(PENDING);
    this.#storage.removeItem(DRAFT);
  }

  #read(key) {
    try {
      return JSON.parse(this.#storage.getItem(key));
    } catch {
      return null;
    }
  }

  #write(key, value) {
    try {
      this.#storage.setItem(key, JSON.stringify(value));
    } catch {
      // The storage is full: the value does not survive a reload, and everything else works.
    }
  }
}

/** `sessionStorage`, or a substitute in memory if the browser forbids it. */
export function tabStorage() {
  try {
    return globalThis.sessionStorage;
  } catch {
    const values = new Map();
    return {
      getItem: (key) => values.get(key) ?? null,
      setItem: (key, value) => values.set(key, value),
      removeItem: (key) => values.delete(key),
    };
  }
}

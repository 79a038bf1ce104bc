// The user's own messages that the lobby has not confirmed yet. They are sent one at a time, in order, and sent again
// with the same id when it is not known whether they arrived: the server publishes a message once for each id.
//
// A message is confirmed when it comes back. One at a time, because the error `rate_limited` does not name its message.

/** The pause after `rate_limited`. The server allows ten messages a second by default. */
export const SLOW_DOWN_MS = 2_000;
/** The pause after `unavailable`, and a random part of it. */
export const UNAVAILABLE_MS = 3_000;
/**
 * A message that is neither confirmed nor refused after this time is sent again, with the same id: the server may still
 * publish the first one.
 */
export const ANSWER_TIMEOUT_MS = 35_000;

/** These errors have no id, so they are about the message that was sent last. */
const CODES_WITHOUT_ID = ["bad_json", "bad_id", "binary", "rate_limited"];

export class PendingMessages {
  #messages;
  #inFlight = null;
  #isConnected = false;
  #isPaused = false;
  #timer = null;
  #environment;
  /** The server dropped a message because there were too many. */
  isSlowedDown = false;
  /** Why the user may not write now, or null. */
  mutedReason = null;

  /**
   * @param environment
   *   `send(message)`: sends a frame, and returns whether there is a connection.
   *   `newId()`: a random id, at most 64 characters.
   *   `onChange(messages)`: something has changed.
   *   `setTimeout`, `clearTimeout`, `random`: time and chance, which a test replaces.
   * @param messages what `onChange` got before the page was loaded again.
   */
  constructor(environment, messages = []) {
    this.#environment = environment;
    this.#messages = messages;
  }

  /** All messages, in order: `{ id, text, problem }`. `problem` is why the server refused the message, or null. */
  get messages() {
    return this.#messages;
  }

  add(text) {
    this.#messages.push({ id: this.#environment.newId(), text, problem: null });
    this.#sendNext();
  }

  /** Sends a refused message again. */
  retry(id) {
    this.#find(id).problem = null;
    this.#sendNext();
  }

  discard(id) {
    this.#remove(id);
    this.#sendNext();
  }

  /** The server has sent all messages that this client had missed, so those that it had sent before are confirmed. */
  connected() {
    this.#isConnected = true;
    this.#sendNext();
  }

  disconnected() {
    this.#isConnected = false;
    this.#forgetInFlight();
  }

  stop() {
    this.disconnected();
    this.#environment.clearTimeout(this.#timer);
  }

  /** A message of this user was published. */
  confirm(id) {
    if (!this.#find(id)) return;
    this.mutedReason = null;
    this.#remove(id);
    this.#sendNext();
  }

  /** The server answers with an `error` frame. */
  refuse({ id, msg: { code, text } }) {
    const about = id ?? (CODES_WITHOUT_ID.includes(code) ? this.#inFlight : null);
    if (about === null || !this.#find(about)) return;
    if (about === this.#inFlight) this.#forgetInFlight();
    if (code === "duplicate") this.#remove(about);
    else if (code === "rate_limited") this.#pause(SLOW_DOWN_MS);
    else if (code === "unavailable") this.#pause(UNAVAILABLE_MS * (1 + this.#environment.random()));
    else this.#find(about).problem = text;
    if (code === "muted") this.mutedReason = text;
    if (code === "rate_limited") this.isSlowedDown = true;
    this.#sendNext();
  }

  /** The server closed the connection because of the message that was sent last. */
  refuseLast(text) {
    if (this.#inFlight !== null) this.#find(this.#inFlight).problem = text;
  }

  #sendNext() {
    const next = this.#messages.find((message) => message.problem === null);
    if (next && this.#isConnected && !this.#isPaused && this.#inFlight === null) {
      const frame = { type: "chat_message", id: next.id, msg: { text: next.text } };
      if (this.#environment.send(frame)) {
        this.#inFlight = next.id;
        this.#arm(ANSWER_TIMEOUT_MS, () => this.#forgetInFlight());
      }
    }
    this.#environment.onChange(this.#messages);
  }

  #pause(ms) {
    this.#isPaused = true;
    this.#arm(ms, () => {
      this.#isPaused = false;
      this.isSlowedDown = false;
    });
  }

  #forgetInFlight() {
    this.#inFlight = null;
    if (!this.#isPaused) this.#environment.clearTimeout(this.#timer);
  }

  #arm(ms, run) {
    this.#environment.clearTimeout(this.#timer);
    this.#timer = this.#environment.setTimeout(() => {
      run();
      this.#sendNext();
    }, ms);
  }

  #find(id) {
    return this.#messages.find((message) => message.id === id);
  }

  #remove(id) {
    this.#messages = this.#messages.filter((message) => message.id !== id);
    if (this.#inFlight === id) this.#forgetInFlight();
  }
}

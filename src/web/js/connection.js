// The connection to the lobby: opens the websocket, notices a dead network, and connects again until the server refuses
// the token. Knows frames only as far as it has to: any frame shows that the network works.
//
//   connecting --first frame--> online --lost--> offline --pause--> connecting
//   A refused token, a close code 1008 and `stop` end the connection for good. After the end of the token (1008, too), a
//   page that has a new token connects again.

import { delayMs } from "./backoff.js";

/** A websocket that is not open after this time never will be. */
export const OPEN_TIMEOUT_MS = 10_000;
/**
 * How long the first frame may take after the websocket is open. When very many clients join at once, a join waits at the
 * server. A client that gives up too early leaves a join that the server works for in vain, and waits again from the start.
 */
export const FIRST_FRAME_TIMEOUT_MS = 60_000;
/** After this much silence the page sends a ping. */
export const PING_AFTER_MS = 15_000;
/** Without any frame for this long after a ping, the network is dead. */
export const PONG_TIMEOUT_MS = 8_000;

/** The close codes of doc/api.md that the page has to know. */
const POLICY = 1008;
/** The text of that code begins with this if the token is the reason. */
const TOKEN_EXPIRED = "token expired";
/** Closes a connection that the page gives up (RFC 6455, section 7.4.2: 4000 to 4999 are for applications). */
const GIVEN_UP = 4000;

export class Connection {
  #socket = null;
  #timer = null;
  #state = { name: "offline", reason: "" };
  #isOver = false;
  #failures = 0;
  #heardAt = 0;
  #pingedAt = null;
  #environment;

  /**
   * @param environment
   *   `openSocket()`: a new `WebSocket` to the lobby.
   *   `findRefusal()`: a promise of why the server refused it, `{ isFinal, message, retryAfterMs }`.
   *   `onState({ name, reason })`, `onFrame(frame)`, `onClose(code)`: what happens. `reason`: why the last connection
   *   was lost, or empty.
   *   `isTokenNew()`: the page has another token than the one that it joined with.
   *   `onEnd(reason)`: the connection has ended for good, and not by `stop`.
   *   `setTimeout`, `clearTimeout`, `now`, `random`: time and chance, which a test replaces.
   */
  constructor(environment) {
    this.#environment = environment;
  }

  get isOnline() {
    return this.#state.name === "online";
  }

  start() {
    this.#connect();
  }

  stop() {
    this.#isOver = true;
    this.#drop(1000);
  }

  /** Sends a message as JSON. Returns false if there is no connection. */
  send(message) {
    if (!this.isOnline) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Finds out now whether the network works: for a user who asks for it, or a browser that reports a change. */
  check() {
    if (this.#isOver) return;
    if (this.#state.name === "offline") this.#connect();
    else if (this.isOnline && this.#pingedAt === null) this.#ping();
  }

  #connect() {
    this.#setState("connecting", this.#state.reason);
    const socket = this.#environment.openSocket();
    this.#socket = socket;
    let wasOpen = false;
    // A socket that was dropped may still report events.
    const ifCurrent = (handle) => (event) => socket === this.#socket && handle(event);
    socket.onopen = ifCurrent(() => {
      wasOpen = true;
      this.#giveUpAfter(FIRST_FRAME_TIMEOUT_MS);
    });
    socket.onmessage = ifCurrent(({ data }) => this.#receive(JSON.parse(data)));
    socket.onclose = ifCurrent(({ code, reason }) => this.#closed(wasOpen, code, reason));
    this.#giveUpAfter(OPEN_TIMEOUT_MS);
  }

  #giveUpAfter(ms) {
    this.#arm(ms, () => this.#lose("The server does not answer."));
  }

  #receive(frame) {
    this.#heardAt = this.#environment.now();
    this.#pingedAt = null;
    if (!this.isOnline) {
      this.#failures = 0;
      this.#setState("online", "");
      this.#watch();
    }
    if (frame.type !== "pong") this.#environment.onFrame(frame);
  }

  /** Runs when the silence may have lasted too long. Frames do not reset the timer: there can be many of them. */
  #watch() {
    const dueAt = this.#pingedAt === null ? this.#heardAt + PING_AFTER_MS : this.#pingedAt + PONG_TIMEOUT_MS;
    const leftMs = dueAt - this.#environment.now();
    if (leftMs > 0) this.#arm(leftMs, () => this.#watch());
    else if (this.#pingedAt === null) this.#ping();
    else this.#lose("The network does not answer.");
  }

  #ping() {
    this.#pingedAt = this.#environment.now();
    this.send({ type: "ping" });
    this.#watch();
  }

  #lose(reason) {
    this.#drop(GIVEN_UP);
    this.#retry(reason, 0);
  }

  async #closed(wasOpen, code, reason) {
    this.#drop();
    this.#environment.onClose(code);
    const canReturn = reason.startsWith(TOKEN_EXPIRED) && this.#environment.isTokenNew();
    if (code === POLICY && !canReturn) return this.#end(reason);
    if (wasOpen) return this.#retry(reason || "The connection was lost.", 0);
    // A browser does not tell a page why the server refused a websocket.
    const refusal = await this.#environment.findRefusal();
    if (this.#isOver || this.#state.name !== "connecting") return;
    if (refusal.isFinal) return this.#end(refusal.message);
    this.#retry(refusal.message, refusal.retryAfterMs);
  }

  #retry(reason, atLeastMs) {
    this.#failures += 1;
    const waitMs = Math.max(delayMs(this.#failures, this.#environment.random()), atLeastMs);
    this.#arm(waitMs, () => this.#connect());
    this.#setState("offline", reason);
  }

  #end(reason) {
    this.#isOver = true;
    this.#environment.onEnd(reason);
  }

  /** Forgets the socket; closes it if a code is given. */
  #drop(code) {
    this.#environment.clearTimeout(this.#timer);
    this.#pingedAt = null;
    const socket = this.#socket;
    this.#socket = null;
    if (code !== undefined) socket?.close(code);
  }

  #arm(ms, run) {
    this.#environment.clearTimeout(this.#timer);
    this.#timer = this.#environment.setTimeout(run, ms);
  }

  #setState(name, reason) {
    this.#state = { name, reason };
    this.#environment.onState(this.#state);
  }
}

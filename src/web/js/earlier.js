// Pages of earlier messages, from `GET /history`. A server without that path keeps no earlier messages. A server that does
// not know the oldest message any more has none before it either.

/** Messages of one page. */
const PAGE = 50;

export class EarlierMessages {
  /** "ready", "loading", "failed", "end" (there are no earlier messages) or "absent" (the server keeps none). */
  state = "ready";
  #environment;

  /**
   * @param environment
   *   `fetchPage(before, limit)`: a promise of `{ status, body }`, as of `fetchHistory`.
   *   `onMessages(messages)`: the newest first, as the server sends them.
   *   `onState()`: `state` has changed.
   */
  constructor(environment) {
    this.#environment = environment;
  }

  /** Loads the messages before the one with this id. Does nothing while it loads, or if there are none. */
  async load(before) {
    if (before === null || !["ready", "failed"].includes(this.state)) return;
    this.#setState("loading");
    try {
      const { status, body } = await this.#environment.fetchPage(before, PAGE);
      if (status === 200) this.#environment.onMessages(body.messages);
      if (status === 200) this.#setState(body.more ? "ready" : "end");
      else if (body?.error === "unknown_message") this.#setState("end");
      else this.#setState(status === 404 ? "absent" : "failed");
    } catch {
      // The network failed, or the answer of a proxy is not JSON.
      this.#setState("failed");
    }
  }

  #setState(state) {
    this.state = state;
    this.#environment.onState();
  }
}

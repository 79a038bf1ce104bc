// Asks for the password before the login ends, so that the user stays in the lobby.

import { byId } from "./dom.js";
import { RenewalTimer } from "./renewal.js";
import { logIn, Refused } from "./server.js";
import { sentence } from "./status.js";

export class RenewalForm {
  #email = null;
  /** The lobby was left: an answer that comes later belongs to no session. */
  #isStopped = false;
  #timeText;
  #timer = new RenewalTimer({
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    now: Date.now,
  });

  /** `timeText(at)` formats a time; `onSession(session)`: the user has logged in again. */
  constructor(timeText, onSession) {
    this.#timeText = timeText;
    byId("renewal").onsubmit = async (event) => {
      event.preventDefault();
      byId("renew").disabled = true;
      try {
        const session = await logIn({ email: this.#email, password: byId("renewal-password").value });
        if (this.#isStopped) return;
        onSession(session);
        this.watch(session);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (!this.#isStopped) byId("renewal-text").textContent = sentence(error.message);
      } finally {
        // The form may belong to the next session.
        if (!this.#isStopped) byId("renew").disabled = false;
      }
    };
  }

  /** Waits until the login of this session is about to end. */
  watch({ email, lifetime }) {
    this.#email = email;
    byId("renewal").hidden = true;
    byId("renewal-password").value = "";
    if (!email || !lifetime) return;
    this.#timer.start(lifetime.askAt, () => {
      const time = this.#timeText(lifetime.endsAt);
      byId("renewal").hidden = false;
      byId("renewal-text").textContent = `Your login ends at ${time}. Enter your password to stay.`;
    });
  }

  stop() {
    this.#isStopped = true;
    this.#timer.stop();
    byId("renewal").hidden = true;
    byId("renew").disabled = false;
  }
}

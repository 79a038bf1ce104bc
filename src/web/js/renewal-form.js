// Asks for the password before the login ends, so that the user stays in the lobby.

import { byId } from "./dom.js";
import { RenewalTimer } from "./renewal.js";
import { logIn, Refused } from "./server.js";
import { sentence } from "./status.js";

export class RenewalForm {
  #email = null;
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
        onSession(session);
        this.watch(session);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        byId("renewal-text").textContent = sentence(error.message);
      } finally {
        byId("renew").disabled = false;
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
    this.#timer.stop();
    byId("renewal").hidden = true;
  }
}

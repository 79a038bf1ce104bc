// The page before the lobby: logging in, also with a token of another service, and creating an account.

import { byId } from "./dom.js";
import { createUser, logIn, Refused, useToken } from "./server.js";
import { sentence } from "./status.js";

export class LoginPage {
  #isNewAccount = false;
  #onSession;

  /** `onSession(session)`: the user has logged in. */
  constructor(onSession) {
    this.#onSession = onSession;
    byId("login-form").onsubmit = (event) => {
      event.preventDefault();
      this.#enter();
    };
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      this.#enterWithToken();
    };
    byId("switch").onclick = () => {
      this.#isNewAccount = !this.#isNewAccount;
      this.#renderMode();
      this.#showProblem("");
    };
    this.#renderMode();
  }

  /** `reason`: why the user is here again, or empty. */
  show(reason) {
    byId("login").hidden = false;
    this.#showProblem(reason);
    byId(byId("email").value === "" ? "email" : "password").focus();
  }

  hide() {
    byId("login").hidden = true;
    byId("password").value = "";
    byId("token").value = "";
  }

  async #enter() {
    this.#showProblem("");
    this.#setBusy(true);
    const [email, username, password] = ["email", "username", "password"].map((id) => byId(id).value);
    try {
      if (this.#isNewAccount) await createUser({ email, username, password });
      // If the login fails now, the account exists nevertheless.
      this.#isNewAccount = false;
      const session = await logIn({ email, password });
      this.#onSession(session);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#showProblem(error.message);
      // Another service manages the accounts.
      const isElsewhere = error.code === "outside_issuer";
      if (isElsewhere) byId("token-login").open = true;
      byId(isElsewhere ? "token" : "password").focus();
    } finally {
      this.#setBusy(false);
      this.#renderMode();
    }
  }

  async #enterWithToken() {
    this.#showProblem("");
    byId("enter-token").disabled = true;
    try {
      this.#onSession(await useToken(byId("token").value.trim()));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#showProblem(error.message);
      byId("token").focus();
    } finally {
      byId("enter-token").disabled = false;
    }
  }

  #renderMode() {
    const isNew = this.#isNewAccount;
    byId("login-title").textContent = isNew ? "Create an account" : "Log in";
    byId("username-row").hidden = !isNew;
    byId("username").required = isNew;
    byId("password").autocomplete = isNew ? "new-password" : "current-password";
    byId("password-rule").hidden = !isNew;
    byId("enter").textContent = isNew ? "Create the account and join" : "Log in and join";
    byId("switch-text").textContent = isNew ? "You have an account?" : "You have no account yet?";
    byId("switch").textContent = isNew ? "Log in" : "Create an account";
  }

  #setBusy(isBusy) {
    byId("enter").disabled = isBusy;
    byId("switch").disabled = isBusy;
    if (isBusy) byId("enter").textContent = "One moment";
  }

  /** The element is a live region, so a screen reader reads the text. */
  #showProblem(text) {
    const first = text.slice(0, 1).toLocaleUpperCase();
    byId("problem").textContent = text && sentence(first + text.slice(1));
  }
}

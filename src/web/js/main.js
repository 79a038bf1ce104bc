// The page: shows the login or the lobby. The other modules have one part of it each; modules that touch the document
// are lobby, login, renewal-form, composer, unread, announcer and the views, and all others can be tested without a browser.

import { byId } from "./dom.js";
import { Lobby } from "./lobby.js";
import { LoginPage } from "./login.js";
import { SessionStore, tabStorage } from "./session.js";

const store = new SessionStore(tabStorage());

const login = new LoginPage((session) => {
  store.save(session);
  login.hide();
  enter(session);
});

function enter(session) {
  new Lobby(session, store, (reason) => {
    if (reason === null) store.clear();
    else store.endSession();
    showUsers(false);
    login.show(reason === null ? "" : `You were disconnected: ${reason}`);
  });
}

/** On a narrow screen the list of users covers the messages, and a button shows and hides it. */
function showUsers(isShown) {
  byId("lobby").classList.toggle("shows-users", isShown);
  byId("show-users").ariaExpanded = isShown;
}

byId("show-users").onclick = () => showUsers(byId("show-users").ariaExpanded !== "true");
byId("close-users").onclick = () => {
  showUsers(false);
  byId("show-users").focus();
};
addEventListener("keydown", (event) => event.key === "Escape" && showUsers(false));

const session = store.load();
if (session === null) login.show("");
else enter(session);

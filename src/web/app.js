// The web page of the lobby. Texts from users are inserted as text, never as HTML.
"use strict";

const EVENTS_MAX = 1000;
const RETRY_FIRST_MS = 500;
const RETRY_LONGEST_MS = 15000;

const byId = (id) => document.getElementById(id);
const online = new Set();
// The ids of the messages that are shown, and of the last one that was received: after a lost connection, the page asks
// for the messages since then.
const shownIds = new Set();
let lastId = null;
let token = null;
let socket = null;
let retryMs = RETRY_FIRST_MS;
let retryTimer = null;
let isNewAccount = false;

function problem(text) {
  byId("problem").textContent = text;
}

async function post(path, body) {
  const response = await fetch(path, { method: "POST", body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

async function enter(event) {
  event.preventDefault();
  problem("");
  byId("enter").disabled = true;
  const account = { email: byId("email").value, password: byId("password").value };
  try {
    if (isNewAccount) await post("createUser", { ...account, username: byId("username").value });
    token = (await post("login", account)).token;
    byId("password").value = "";
    join();
  } catch (error) {
    problem(error.message);
  } finally {
    byId("enter").disabled = false;
  }
}

function join() {
  const url = new URL("join", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (lastId !== null) url.searchParams.set("after", lastId);
  // A page cannot set a header here, so it sends the token as a subprotocol.
  socket = new WebSocket(url, ["ich", "bearer." + token]);
  let wasOpen = false;
  socket.onopen = () => {
    wasOpen = true;
    byId("door").hidden = true;
    byId("lobby").hidden = false;
    byId("state").textContent = "";
    byId("text").focus();
  };
  socket.onmessage = ({ data }) => show(JSON.parse(data));
  socket.onclose = ({ code, reason }) => closed(code, reason, wasOpen);
}

function closed(code, reason, wasOpen) {
  socket = null;
  if (token === null) return;
  if (code === 1008) return leave("You were disconnected: " + reason);
  if (wasOpen) return joinLater(reason);
  findRefusal();
}

// A browser does not tell a page why a websocket was refused. So the page sends a plain request for the same path: the
// answer has the reason.
async function findRefusal() {
  const refusedToken = token;
  let status = 0;
  let message = "the server does not answer";
  try {
    const response = await fetch("join", { headers: { Authorization: "Bearer " + refusedToken } });
    status = response.status;
    message = status === 426 ? "no websocket can be opened" : (await response.json()).message;
  } catch {
    // The network is down, or the answer of a proxy is not JSON: keep the message above.
  }
  if (token !== refusedToken) return;
  if (status === 401) return leave("You were disconnected: " + message);
  if (byId("lobby").hidden) return leave("The lobby cannot be joined now: " + message);
  joinLater(message);
}

function joinLater(reason) {
  byId("state").textContent = `not connected${reason ? ": " + reason : ""}; reconnecting`;
  // When a server restarts, all its clients are disconnected at the same time. The random delay spreads their joins.
  retryTimer = setTimeout(join, retryMs * (0.5 + Math.random()));
  retryMs = Math.min(retryMs * 2, RETRY_LONGEST_MS);
}

function leave(why) {
  clearTimeout(retryTimer);
  token = null;
  if (socket) socket.close(1000);
  online.clear();
  shownIds.clear();
  lastId = null;
  byId("events").replaceChildren();
  byId("lobby").hidden = true;
  byId("door").hidden = false;
  problem(why);
}

function show({ type, sent_at, event_id, msg }) {
  switch (type) {
    case "users_online":
      retryMs = RETRY_FIRST_MS;
      // After a lost connection, the missed messages follow.
      if (lastId === null && event_id !== undefined) lastId = event_id;
      online.clear();
      msg.list.forEach((name) => online.add(name));
      break;
    case "user_joined":
      online.add(msg.username);
      line(sent_at, "", msg.username + " joined", "note");
      break;
    case "user_left":
      online.delete(msg.username);
      line(sent_at, "", msg.username + " left", "note");
      break;
    case "chat_message":
      if (isNew(event_id)) line(sent_at, msg.from_user, msg.text, "said");
      return;
    case "caught_up":
      if (!msg.complete) line(sent_at, "", "Some messages from before are missing here.", "note");
      return;
    case "error":
      line(sent_at, "", msg.text, "error");
      return;
    default:
      return;
  }
  showOnline();
}

// If the server does not know the last message that this page received, it may send messages that the page already shows.
function isNew(id) {
  lastId = id;
  if (shownIds.has(id)) return false;
  shownIds.add(id);
  if (shownIds.size > EVENTS_MAX) shownIds.delete(shownIds.values().next().value);
  return true;
}

let isListDue = false;

function showOnline() {
  if (isListDue) return;
  isListDue = true;
  // Many users can join or leave at once: render the list once for all of them.
  requestAnimationFrame(() => {
    isListDue = false;
    byId("count").textContent = online.size;
    const names = [...online].sort((a, b) => a.localeCompare(b)).slice(0, EVENTS_MAX);
    byId("online").replaceChildren(...names.map((name) => element("li", name)));
  });
}

function line(sentAt, from, text, kind) {
  const events = byId("events");
  const isAtEnd = events.scrollHeight - events.scrollTop - events.clientHeight < 40;
  const item = element("li", "");
  item.className = kind;
  const time = element("time", new Date(sentAt).toLocaleTimeString());
  time.dateTime = sentAt;
  item.append(time);
  if (from) item.append(element("b", from));
  item.append(element("span", text));
  events.append(item);
  while (events.childElementCount > EVENTS_MAX) events.firstElementChild.remove();
  if (isAtEnd) events.scrollTop = events.scrollHeight;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

byId("login").addEventListener("submit", enter);
byId("leave").addEventListener("click", () => leave(""));
byId("switch").addEventListener("click", () => {
  isNewAccount = !isNewAccount;
  byId("username-row").hidden = !isNewAccount;
  byId("username").required = isNewAccount;
  byId("password").autocomplete = isNewAccount ? "new-password" : "current-password";
  byId("enter").textContent = isNewAccount ? "Create an account and join" : "Log in and join";
  byId("switch").textContent = isNewAccount ? "I have an account" : "I have no account yet";
});
byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value;
  if (!text || !socket || socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ type: "chat_message", msg: { text } }));
  byId("text").value = "";
});

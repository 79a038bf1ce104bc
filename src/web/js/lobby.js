// One session in the lobby, from the login to the end of its token: takes the frames of the server, keeps what the page
// shows, and renders it at most once per frame of the screen.

import { Announcer } from "./announcer.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { byId } from "./dom.js";
import { EarlierMessages } from "./earlier.js";
import { fillGap } from "./gap.js";
import { PendingMessages } from "./pending.js";
import { PendingView } from "./pending-view.js";
import { RenewalForm } from "./renewal-form.js";
import { fetchHistory, findRefusal, openLobby } from "./server.js";
import { describeStatus } from "./status.js";
import { Timeline } from "./timeline.js";
import { TimelineView } from "./timeline-view.js";
import { timeTexts } from "./times.js";
import { Unread } from "./unread.js";
import { OnlineUsers } from "./users.js";
import { UsersView } from "./users-view.js";

/** Messages that the page asks for when it joins the first time. */
const FIRST_MESSAGES = 100;
/** The close code for a message that is too long. */
const TOO_BIG = 1009;
/** Time and chance of the browser. */
const BROWSER = {
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  now: () => performance.now(),
  random: Math.random,
};

export class Lobby {
  #username;
  #onEnd;
  #token;
  /** The token that the server has for this session. */
  #joinedWith = null;
  #users = new OnlineUsers();
  #timeline;
  #earlier;
  #pending;
  #connection;
  #connectionState = { name: "connecting", reason: "" };
  #timelineView;
  #pendingView;
  #usersView;
  #unread = new Unread();
  #announcer = new Announcer(byId("announcer"));
  #composer;
  #renewal;
  /** What the server sends first, until `caught_up`: `{ idBefore, messages }`; null after it. */
  #missed = null;
  #isRenderDue = false;
  #listeners = new AbortController();

  /**
   * @param session `{ token, username, email, lifetime }`
   * @param store keeps the session and the pending messages
   * @param onEnd the session is over: gets the reason, or null if the user logs out
   */
  constructor(session, store, onEnd) {
    const { username } = session;
    this.#username = username;
    this.#token = session.token;
    this.#onEnd = onEnd;
    const texts = timeTexts();
    this.#timeline = new Timeline(texts.dayKey);
    this.#connection = new Connection({
      ...BROWSER,
      openSocket: () => this.#openSocket(),
      findRefusal: () => findRefusal(this.#token),
      isTokenNew: () => this.#token !== this.#joinedWith,
      onState: (state) => this.#connectionChanged(state),
      onFrame: (frame) => this.#receive(frame),
      onClose: (code) => code === TOO_BIG && this.#pending.refuseLast("The message is too long."),
      onEnd: (reason) => this.#end(reason),
    });
    const pendingEnvironment = {
      ...BROWSER,
      send: (message) => this.#connection.send(message),
      newId: randomId,
      onChange: (messages) => {
        store.savePending(username, messages);
        this.#renderSoon();
      },
    };
    this.#pending = new PendingMessages(pendingEnvironment, store.loadPending(username));
    this.#earlier = new EarlierMessages({
      fetchPage: (before, limit) => fetchHistory(this.#token, before, limit),
      onMessages: (messages) => this.#timeline.addOlder(messages.map((message) => this.#message(message))),
      onState: () => this.#renderSoon(),
    });
    this.#openViews(texts);
    const saveDraft = (text) => store.saveDraft(username, text);
    this.#composer = new Composer(store.loadDraft(username), saveDraft, (text) => {
      this.#pending.add(text);
      this.#timelineView.scrollToEnd();
    });
    this.#renewal = new RenewalForm(texts.timeText, (renewed) => {
      store.save(renewed);
      this.#token = renewed.token;
      this.#sendToken();
    });
    this.#renewal.watch(session);
    this.#connection.start();
    this.#composer.focus();
  }

  #openSocket() {
    this.#joinedWith = this.#token;
    return openLobby(this.#token, this.#timeline.lastId, FIRST_MESSAGES);
  }

  /** Continues the session on the server. Without a connection, `users_online` does it, or the next join. */
  #sendToken() {
    this.#connection.send({ type: "token", msg: { token: this.#token } });
  }

  #openViews(texts) {
    byId("lobby").hidden = false;
    byId("own-name").textContent = this.#username;
    const messages = { scroller: byId("messages-scroller"), list: byId("messages") };
    this.#timelineView = new TimelineView(messages, this.#timeline, texts, () => this.#renderSoon());
    const users = {
      scroller: byId("users-scroller"),
      rows: byId("user-rows"),
      filter: byId("filter"),
      nobody: byId("nobody-found"),
      counts: document.querySelectorAll(".user-count"),
    };
    this.#usersView = new UsersView(users, this.#username, () => this.#renderSoon());
    const actions = this.#pendingActions();
    this.#pendingView = new PendingView(byId("pending"), this.#username, actions, () => this.#renderSoon());
    byId("earlier").onclick = () => this.#earlier.load(this.#timeline.oldestId);
    byId("latest").onclick = () => {
      this.#timelineView.scrollToEnd();
      // The button disappears.
      messages.scroller.focus();
    };
    byId("try-now").onclick = () => this.#connection.check();
    byId("log-out").onclick = () => this.#end(null);
    const { signal } = this.#listeners;
    addEventListener("online", () => this.#connection.check(), { signal });
    addEventListener("offline", () => this.#connection.check(), { signal });
    addEventListener("resize", () => this.#renderSoon(), { signal });
    document.addEventListener("visibilitychange", () => this.#visibilityChanged(), { signal });
  }

  #end(reason) {
    this.#connection.stop();
    this.#pending.stop();
    this.#timelineView.stop();
    this.#renewal.stop();
    this.#listeners.abort();
    this.#unread.pageSeen();
    byId("lobby").hidden = true;
    byId("messages").replaceChildren();
    byId("pending").replaceChildren();
    byId("user-rows").replaceChildren();
    this.#onEnd(reason);
  }

  #connectionChanged(state) {
    this.#connectionState = state;
    // What was received before `caught_up` is received again.
    this.#missed = null;
    if (state.name !== "online") this.#pending?.disconnected();
    this.#renderSoon();
  }

  #receive({ type, sent_at, event_id, id, msg }) {
    switch (type) {
      case "users_online":
        this.#missed = { idBefore: event_id, messages: [] };
        this.#users.replace(msg.list);
        // The login may have been renewed since the join began.
        if (this.#token !== this.#joinedWith) this.#sendToken();
        break;
      case "user_joined":
        this.#users.add(msg.username);
        if (msg.username !== this.#username) this.#timeline.addPresence(msg.username, "joined", Date.parse(sent_at));
        break;
      case "user_left":
        this.#users.remove(msg.username);
        if (msg.username !== this.#username) this.#timeline.addPresence(msg.username, "left", Date.parse(sent_at));
        break;
      case "chat_message":
        this.#receiveMessage(this.#message({ event_id, sent_at, ...msg }), id);
        break;
      case "caught_up":
        this.#addMissed(msg.complete);
        this.#pending.connected();
        break;
      case "token":
        this.#joinedWith = this.#token;
        break;
      case "error":
        this.#pending.refuse({ id, msg });
        break;
      default:
        // A later server may send frames that this page does not know.
        return;
    }
    this.#renderSoon();
  }

  #addMissed(isComplete) {
    const { gap, added } = this.#timeline.addMissed(this.#missed.messages, isComplete, this.#missed.idBefore);
    this.#missed = null;
    for (const message of added) this.#added(message);
    if (gap !== null) this.#fill(gap);
  }

  async #fill(gap) {
    const fetchPage = (before, limit) => fetchHistory(this.#token, before, limit);
    const { messages, isClosed } = await fillGap(fetchPage, gap.before, gap.lastKnown);
    this.#timeline.fillGap(gap, messages.map((message) => this.#message(message)), isClosed);
    this.#renderSoon();
  }

  #receiveMessage(message, id) {
    // Ids are random: one that is pending is from this user, also if the token does not tell the name.
    if (id !== undefined && (message.isOwn || this.#username === "")) this.#pending.confirm(id);
    if (this.#missed !== null) {
      this.#missed.messages.push(message);
    } else if (this.#timeline.addMessage(message)) {
      this.#added(message);
    }
  }

  /** A message is new to this user, if somebody else has written it. */
  #added({ id, from, text, isOwn }) {
    if (isOwn) return;
    if (this.#unread.add(this.#timelineView.isAtEnd)) this.#timeline.markUnread(id);
    this.#announcer.announce(from, text);
  }

  #message({ event_id, sent_at, from_user, text }) {
    return { id: event_id, from: from_user, text, at: Date.parse(sent_at), isOwn: from_user === this.#username };
  }

  #visibilityChanged() {
    if (document.hidden) return;
    this.#unread.pageSeen();
    this.#connection.check();
    // It may be another day.
    this.#renderSoon();
  }

  #renderSoon() {
    if (this.#isRenderDue) return;
    this.#isRenderDue = true;
    requestAnimationFrame(() => {
      this.#isRenderDue = false;
      if (!this.#listeners.signal.aborted) this.#render();
    });
  }

  #render() {
    this.#pendingView.render(this.#pending.messages, this.#timeline.endsWithOwn);
    const isComplete = this.#timelineView.render();
    this.#usersView.render(this.#users);
    this.#unread.render(this.#timelineView.isAtEnd);
    this.#renderEarlier();
    this.#renderStatus();
    if (!isComplete) this.#renderSoon();
    else if (this.#timelineView.isAtStart) this.#loadEarlier();
  }

  /** The user has scrolled to the first message, or there are so few that nothing scrolls. */
  #loadEarlier() {
    const isPossible = this.#earlier.state === "ready" && this.#timeline.hasRoomForOlder;
    if (isPossible && this.#connection.isOnline) this.#earlier.load(this.#timeline.oldestId);
  }

  /**
   * The button that the user presses disappears, so the focus goes to the messages. In the composer, it would open the
   * keyboard of a phone.
   */
  #pendingActions() {
    return {
      retry: (id) => {
        this.#pending.retry(id);
        byId("messages-scroller").focus();
      },
      discard: (id) => {
        this.#pending.discard(id);
        byId("messages-scroller").focus();
      },
      edit: (id) => {
        this.#composer.edit(this.#pending.messages.find((message) => message.id === id).text);
        this.#pending.discard(id);
      },
    };
  }

  #renderEarlier() {
    const { state } = this.#earlier;
    const hasMessages = this.#timeline.oldestId !== null;
    const button = byId("earlier");
    button.hidden = !hasMessages || !this.#timeline.hasRoomForOlder || ["end", "absent"].includes(state);
    const texts = { loading: "Loading", failed: "Earlier messages could not be loaded. Try again" };
    button.textContent = texts[state] ?? "Show earlier messages";
    byId("beginning").hidden = state !== "end";
    const isEmpty = !hasMessages && this.#pending.messages.length === 0 && this.#connectionState.name === "online";
    byId("empty").hidden = !isEmpty;
  }

  #renderStatus() {
    const { isSlowedDown, mutedReason } = this.#pending;
    const status = describeStatus(this.#connectionState, isSlowedDown, mutedReason);
    const state = byId("state");
    state.dataset.level = status.level;
    state.textContent = status.short;
    const banner = byId("banner");
    banner.dataset.level = status.level;
    // A live region: it is read when its text changes, so it must not be hidden before.
    banner.classList.toggle("hidden-text", status.text === "");
    if (byId("banner-text").textContent !== status.text) byId("banner-text").textContent = status.text;
    byId("try-now").hidden = !status.canRetry;
  }
}

/** An id that no other message of this account has. `crypto.randomUUID` exists only on pages with HTTPS. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

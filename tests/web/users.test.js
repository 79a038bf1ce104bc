// The list of users, and what survives a reload.

import assert from "node:assert/strict";
import test from "node:test";

import { EarlierMessages } from "../../src/web/js/earlier.js";
import { fetchHistory } from "../../src/web/js/server.js";
import { SessionStore } from "../../src/web/js/session.js";
import { OnlineUsers } from "../../src/web/js/users.js";

test("the list is in alphabetical order, whatever the order of the events", () => {
  const users = new OnlineUsers();
  users.replace(["bob", "Zoe", "\u00c9va", "Ann"]);
  users.add("ed");
  users.add("Ann");
  users.add("ann");
  users.remove("bob");
  users.remove("nobody");
  assert.deepEqual(users.matching(""), ["Ann", "ann", "ed", "\u00c9va", "Zoe"]);
  assert.equal(users.size, 5);
  users.replace([]);
  assert.equal(users.size, 0);
});

test("a search ignores case, accents and blanks around it", () => {
  const users = new OnlineUsers();
  users.replace(["\u00c9va", "Bob", "Evan"]);
  assert.deepEqual(users.matching(" eva "), ["\u00c9va", "Evan"]);
  assert.deepEqual(users.matching("x"), []);
});

test("random joins and leaves give the list of a set", () => {
  const users = new OnlineUsers();
  const expected = new Set();
  for (let step = 0; step < 5_000; step += 1) {
    const name = `user ${(step * 7919) % 313}`;
    if ((step * 31) % 5 < 3) {
      users.add(name);
      expected.add(name);
    } else {
      users.remove(name);
      expected.delete(name);
    }
  }
  assert.deepEqual(users.matching(""), [...expected].sort());
});

function storage() {
  const values = new Map();
  return {
    values,
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => values.set(key, value),
    removeItem: (key) => values.delete(key),
  };
}

test("the session, the pending messages and the draft survive a reload, and a logout ends them", () => {
  const kept = storage();
  const store = new SessionStore(kept);
  assert.equal(store.load(), null);
  store.save({ token: "t", username: "Ann", id: "1" });
  store.savePending("Ann", [{ id: "1", text: "a", problem: null }]);
  store.saveDraft("Ann", "not ready");
  const reloaded = new SessionStore(kept);
  assert.deepEqual(reloaded.load(), { token: "t", username: "Ann", id: "1" });
  assert.equal(reloaded.loadPending("Ann").length, 1);
  reloaded.endSession();
  assert.equal(reloaded.load(), null);
  assert.equal(reloaded.loadPending("Ann").length, 1, "the user can log in again and send them");
  assert.equal(reloaded.loadDraft("Ann"), "not ready");
  assert.deepEqual([reloaded.loadPending("Bob"), reloaded.loadDraft("Bob")], [[], ""], "of another user");
  reloaded.clear();
  assert.equal(kept.values.size, 0);
});

test("a storage with other content or without room does no harm", () => {
  const kept = storage();
  kept.values.set("ich.session", "{not JSON");
  kept.values.set("ich.pending", "5");
  kept.values.set("ich.draft", "null");
  const store = new SessionStore(kept);
  assert.equal(store.load(), null);
  assert.deepEqual([store.loadPending("Ann"), store.loadDraft("Ann")], [[], ""]);
  const full = { ...kept, setItem: () => { throw new Error("full"); } };
  new SessionStore(full).save({ token: "t", username: "Ann" });
});

function earlier(answers) {
  const asked = [];
  const received = [];
  const pages = new EarlierMessages({
    fetchPage: async (before) => {
      asked.push(before);
      const answer = answers.shift();
      if (answer === undefined) throw new Error("no network");
      return answer;
    },
    onMessages: (messages) => received.push(...messages),
    onState: () => {},
  });
  return { asked, received, pages };
}

test("pages of earlier messages are loaded until there are no more", async () => {
  const { asked, received, pages } = earlier([
    { status: 200, body: { messages: ["c", "b"], more: true } },
    { status: 200, body: { messages: ["a"], more: false } },
  ]);
  await Promise.all([pages.load("d"), pages.load("d")]);
  await pages.load("b");
  assert.equal(pages.state, "end");
  await pages.load("a");
  assert.deepEqual([asked, received], [["d", "b"], ["c", "b", "a"]]);
});

test("a server without earlier messages is not asked again, and a failed request can be repeated", async () => {
  const absent = earlier([{ status: 404, body: { error: "not_found" } }]);
  await absent.pages.load("a");
  assert.equal(absent.pages.state, "absent");
  await absent.pages.load("a");
  assert.equal(absent.asked.length, 1);
  const proxy = earlier([{ status: 404, body: null }]);
  await proxy.pages.load("a");
  assert.equal(proxy.pages.state, "absent");

  const failing = earlier([{ status: 503, body: null }, undefined, { status: 200, body: { messages: [], more: false } }]);
  await failing.pages.load("a");
  assert.equal(failing.pages.state, "failed");
  await failing.pages.load("a");
  assert.equal(failing.pages.state, "failed");
  await failing.pages.load("a");
  assert.equal(failing.pages.state, "end");
  await failing.pages.load(null);
  assert.equal(failing.asked.length, 3);
});

test("a message that the server has deleted meanwhile was the earliest one", async () => {
  const { pages } = earlier([{ status: 404, body: { error: "unknown_message" } }]);
  await pages.load("a");
  assert.equal(pages.state, "end");
});

test("the answer of the history has the code of an error, or no body if a proxy answers", async () => {
  globalThis.fetch = async () => new Response('{"error":"unknown_message"}', { status: 404 });
  assert.deepEqual(await fetchHistory("t", "a", 50), { status: 404, body: { error: "unknown_message" } });
  globalThis.fetch = async () => new Response("<html>", { status: 404 });
  assert.deepEqual(await fetchHistory("t", "a", 50), { status: 404, body: null });
});

// The timeline: each message once, groups, days, gaps and the bound.

import assert from "node:assert/strict";
import test from "node:test";

import { GROUP_MS, NAMES_MAX } from "../../src/web/js/presence.js";
import { ENTRIES_MAX, Timeline } from "../../src/web/js/timeline.js";
import { timeTexts } from "../../src/web/js/times.js";

const MINUTE = 60_000;
const texts = timeTexts("en-GB", "UTC");
const at = (time) => Date.parse(time);
const message = (id, from = "Ann", minutes = 0) => ({ id, from, text: `text ${id}`, at: minutes * MINUTE });
const timeline = () => new Timeline(texts.dayKey);

function entries(shown) {
  const all = [];
  for (let position = shown.first; position <= shown.last; position += 1) all.push(shown.at(position));
  return all;
}

const ids = (shown) => entries(shown).map(({ id, kind }) => id ?? kind);

test("a message is shown once", () => {
  const shown = timeline();
  assert.equal(shown.addMessage(message("a")), true);
  assert.equal(shown.addMessage(message("a")), false);
  shown.addMissed([message("a"), message("b")], true);
  assert.deepEqual(ids(shown), ["a", "b"]);
  assert.equal(shown.lastId, "b");
});

test("messages of one user within five minutes stand under one name", () => {
  const shown = timeline();
  for (const [from, minutes] of [["Ann", 0], ["Ann", 1], ["Bob", 2], ["Bob", 8], ["Ann", 9]]) {
    shown.addMessage(message(`${from}${minutes}`, from, minutes));
  }
  assert.deepEqual(entries(shown).map(({ startsGroup }) => startsGroup), [true, false, true, true, true]);
});

test("each day has a heading, and a clock that is set back begins no day", () => {
  const shown = timeline();
  const minutes = [0, 24 * 60, 24 * 60 + 1, 23 * 60, 48 * 60];
  minutes.forEach((minute, index) => shown.addMessage(message(String(index), "Ann", minute)));
  assert.deepEqual(entries(shown).map(({ startsDay }) => startsDay), [true, true, false, false, true]);
});

test("missing messages are noted, unless they overlap with those that are shown", () => {
  const shown = timeline();
  shown.addMissed([message("a")], false);
  assert.deepEqual(ids(shown), ["a"], "a client that joins the first time has missed nothing");
  shown.addMissed([message("x")], false);
  assert.deepEqual(ids(shown), ["a", "note", "x"]);
  shown.addMissed([message("x"), message("y")], false);
  assert.deepEqual(ids(shown), ["a", "note", "x", "y"]);
});

test("a client without messages returns with the id from before its join", () => {
  const shown = timeline();
  shown.addMissed([], true, "before");
  assert.equal(shown.lastId, "before");
  shown.addMissed([message("a")], true, "other");
  assert.equal(shown.lastId, "a");
});

test("the missed messages are reported, but not those of the first join", () => {
  const shown = timeline();
  const addedIds = (messages) => shown.addMissed(messages, true).added.map(({ id }) => id);
  assert.deepEqual(addedIds([message("a")]), []);
  assert.deepEqual(addedIds([message("a"), message("b"), message("c")]), ["b", "c"]);
});

test("one line stands before the messages that the user has not seen", () => {
  const shown = timeline();
  for (const id of ["a", "b", "c"]) shown.addMessage(message(id));
  const unread = () => entries(shown).filter(({ startsUnread }) => startsUnread).map(({ id }) => id);
  const groups = () => entries(shown).map(({ startsGroup }) => startsGroup);
  shown.takeChanged();
  shown.markUnread("b");
  assert.deepEqual([unread(), groups(), [...shown.takeChanged()]], [["b"], [true, true, false], [1]]);
  shown.markUnread("c");
  assert.deepEqual([unread(), groups(), [...shown.takeChanged()]], [["c"], [true, false, true], [1, 2]]);
});

test("own messages that are not confirmed continue a group of own messages only", () => {
  const shown = timeline();
  assert.equal(shown.endsWithOwn, false);
  shown.addMessage({ ...message("a"), isOwn: true });
  assert.equal(shown.endsWithOwn, true);
  shown.addPresence("Bob", "joined", 0);
  assert.equal(shown.endsWithOwn, false);
});

test("older messages come before all others, and once", () => {
  const shown = timeline();
  shown.addMessage(message("d", "Ann", 3));
  shown.addOlder([message("d", "Ann", 3), message("c", "Ann", 2), message("b", "Ann", 1)]);
  shown.addOlder([message("a", "Bob", 0)]);
  assert.deepEqual(ids(shown), ["a", "b", "c", "d"]);
  assert.deepEqual(entries(shown).map(({ startsGroup }) => startsGroup), [true, true, false, false]);
  assert.deepEqual([shown.oldestId, shown.lastId], ["a", "d"]);
  assert.equal(shown.addMessage(message("c")), false);
});

test("joins and leaves that follow each other are one entry", () => {
  const shown = timeline();
  for (let number = 0; number < 2000; number += 1) shown.addPresence(`user ${number}`, "joined", 0);
  shown.addPresence("user 5", "left", 0);
  shown.addPresence("Ann", "left", 0);
  shown.addPresence("Bob", "left", 0);
  shown.addPresence("Bob", "joined", 0);
  assert.deepEqual(ids(shown), ["presence"]);
  assert.deepEqual(shown.at(0).group.parts(), [
    { names: ["user 0", "user 1", "user 2"], others: 1996, did: "joined" },
    { names: ["Ann"], others: 0, did: "left" },
    { names: ["user 5"], others: 0, did: "joined and left" },
    { names: ["Bob"], others: 0, did: "left and came back" },
  ]);
});

test("a message, ten minutes and too many names end a group", () => {
  const shown = timeline();
  shown.addPresence("Ann", "joined", 0);
  shown.addMessage(message("a"));
  shown.addPresence("Bob", "joined", 0);
  shown.addPresence("Cid", "joined", GROUP_MS);
  assert.deepEqual(ids(shown), ["presence", "a", "presence", "presence"]);
  assert.deepEqual(shown.at(0).group.parts(), [{ names: ["Ann"], others: 0, did: "joined" }]);
  for (let number = 0; number < NAMES_MAX; number += 1) shown.addPresence(`user ${number}`, "joined", GROUP_MS);
  assert.equal(entries(shown).length, 5);
});

test("the number of entries is bounded, and their positions stay", () => {
  const shown = timeline();
  for (let number = 0; number < ENTRIES_MAX + 10; number += 1) shown.addMessage(message(String(number)));
  assert.equal(entries(shown).length, ENTRIES_MAX);
  assert.deepEqual([shown.first, shown.oldestId, shown.hasRoomForOlder], [10, "10", false]);
  assert.equal(shown.at(10).startsGroup, true, "the first entry has the name");
  assert.ok(shown.takeChanged().has(10));
  assert.equal(shown.takeChanged().size, 0);
});

test("days have names that people use", () => {
  const now = at("2026-11-25T10:00:00Z");
  assert.equal(texts.dayText(at("2026-11-25T00:00:00Z"), now), "Today");
  assert.equal(texts.dayText(at("2026-11-24T23:59:59Z"), now), "Yesterday");
  assert.equal(texts.dayText(at("2026-11-22T12:00:00Z"), now), "Sunday 22 November");
  assert.equal(texts.dayText(at("2025-12-31T12:00:00Z"), now), "31 December 2025");
  assert.equal(texts.timeText(at("2026-11-22T09:05:00Z")), "09:05");
  assert.equal(texts.clockText(at("2026-11-22T09:05:00Z")), "09:05");
  assert.equal(timeTexts("en-US", "UTC").clockText(at("2026-11-22T21:05:00Z")), "9:05");
});

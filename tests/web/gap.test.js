// A gap: pages of the history from the oldest message that came, back to the last one that the page knew.

import assert from "node:assert/strict";
import test from "node:test";

import { fillGap, PAGES_MAX } from "../../src/web/js/gap.js";
import { ENTRIES_MAX, Timeline } from "../../src/web/js/timeline.js";
import { timeTexts } from "../../src/web/js/times.js";

const texts = timeTexts("en-GB", "UTC");
const message = (id, from = "Ann") => ({ id, from, text: `text ${id}`, at: 0 });

/** A server with these messages, the oldest first. Notes in `asked` what it is asked for. */
function archive(count, asked) {
  const all = Array.from({ length: count }, (_, number) => ({ event_id: String(number) }));
  return async (before, limit) => {
    asked.push(before);
    const earlier = before === null ? all : all.slice(0, Number(before));
    const messages = earlier.slice(-limit).reverse();
    return { status: 200, body: { messages, more: earlier.length > messages.length } };
  };
}

const ids = ({ messages }) => messages.map(({ event_id }) => event_id);

test("pages are read back to the last message that is known", async () => {
  const asked = [];
  const filled = await fillGap(archive(300, asked), "250", "40");
  assert.equal(filled.isClosed, true);
  assert.deepEqual([ids(filled)[0], ids(filled).at(-1), filled.messages.length], ["249", "41", 209]);
  assert.deepEqual(asked, ["250", "150", "50"]);
});

test("without a message behind the gap, the newest ones are read", async () => {
  const filled = await fillGap(archive(5, []), null, "2");
  assert.deepEqual([ids(filled), filled.isClosed], [["4", "3"], true]);
});

test("a gap stays open if the history begins behind it, or is too long", async () => {
  const short = await fillGap(archive(20, []), "10", "unknown");
  assert.deepEqual([short.messages.length, short.isClosed], [10, false]);
  const asked = [];
  const long = await fillGap(archive(5000, asked), "4000", "1");
  assert.deepEqual([long.messages.length, long.isClosed, asked.length], [100 * PAGES_MAX, false, PAGES_MAX]);
});

test("what was read before an error is kept", async () => {
  const asked = [];
  const server = archive(300, asked);
  for (const fail of [async () => ({ status: 503, body: null }), () => Promise.reject(new TypeError("no network"))]) {
    asked.length = 0;
    const filled = await fillGap((before, limit) => (asked.length === 1 ? fail() : server(before, limit)), "200", "1");
    assert.deepEqual([filled.messages.length, filled.isClosed], [100, false]);
  }
});

function entries(shown) {
  const all = [];
  for (let position = shown.first; position <= shown.last; position += 1) all.push(shown.at(position));
  return all;
}

const shownIds = (shown) => entries(shown).map(({ id, kind }) => id ?? kind);

function withGap() {
  const shown = new Timeline(texts.dayKey);
  shown.addMessage(message("a"));
  const { gap } = shown.addMissed([message("x")], false);
  shown.addMessage(message("y"));
  return { shown, gap };
}

test("found messages take the place of the note", () => {
  const { shown, gap } = withGap();
  assert.deepEqual([gap.lastKnown, gap.before], ["a", "x"]);
  shown.fillGap(gap, [message("c"), message("b")], true);
  assert.deepEqual(shownIds(shown), ["a", "b", "c", "x", "y"]);
  assert.deepEqual(entries(shown).map(({ startsGroup }) => startsGroup), [true, false, false, false, false]);
  assert.deepEqual([shown.oldestId, shown.lastId, shown.moves], ["a", "y", 1]);
  assert.equal(shown.addMessage(message("b")), false, "it is shown already");
});

test("the note stays in front of the found messages if others are missing", () => {
  const { shown, gap } = withGap();
  shown.fillGap(gap, [message("c"), message("y")], false);
  assert.deepEqual(shownIds(shown), ["a", "note", "c", "x", "y"]);
});

test("a gap that was removed is not filled, and the number of entries stays bounded", () => {
  const { shown, gap } = withGap();
  for (let number = 0; number < ENTRIES_MAX - 4; number += 1) shown.addMessage(message(String(number)));
  shown.fillGap(gap, [message("c"), message("b")], false);
  assert.equal(entries(shown).length, ENTRIES_MAX);
  assert.deepEqual(shownIds(shown).slice(0, 4), ["b", "c", "x", "y"]);
  const { first, moves } = shown;
  shown.fillGap(gap, [message("d")], false);
  assert.deepEqual([shown.first, shown.moves], [first, moves]);
});

test("no gap is noted at the first join, or if the messages overlap", () => {
  const shown = new Timeline(texts.dayKey);
  assert.equal(shown.addMissed([message("a")], false).gap, null);
  assert.equal(shown.addMissed([message("a"), message("b")], false).gap, null);
  assert.equal(shown.addMissed([message("c")], true).gap, null);
});

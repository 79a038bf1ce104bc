// Pending messages: order, repetition with the same id, and refusals.

import assert from "node:assert/strict";
import test from "node:test";

import { ANSWER_TIMEOUT_MS, PendingMessages, SLOW_DOWN_MS, UNAVAILABLE_MS } from "../../src/web/js/pending.js";
import { Clock } from "./clock.js";

function start(saved) {
  const clock = new Clock();
  const sent = [];
  let number = 0;
  const environment = {
    ...clock.environment,
    send: ({ id, msg }) => sent.push(`${id} ${msg.text}`) > 0,
    newId: () => `id${(number += 1)}`,
    onChange: () => {},
  };
  return { clock, sent, pending: new PendingMessages(environment, saved) };
}

const texts = (pending) => pending.messages.map(({ text }) => text);
const error = (code, id) => ({ id, msg: { code, text: `because of ${code}` } });

test("messages are sent one after the other, and leave when they come back", () => {
  const { sent, pending } = start();
  pending.add("one");
  pending.add("two");
  assert.deepEqual(sent, []);
  pending.connected();
  assert.deepEqual(sent, ["id1 one"]);
  pending.confirm("id1");
  assert.deepEqual(sent, ["id1 one", "id2 two"]);
  pending.confirm("of another client");
  pending.confirm("id2");
  assert.deepEqual(texts(pending), []);
});

test("after a lost connection the message is sent again with the same id", () => {
  const { sent, pending } = start();
  pending.connected();
  pending.add("one");
  pending.disconnected();
  pending.connected();
  assert.deepEqual(sent, ["id1 one", "id1 one"]);
  // Both arrived: the second one was refused.
  pending.refuse(error("duplicate", "id1"));
  assert.deepEqual(texts(pending), []);
});

test("a message that came back while the client returned is not sent again", () => {
  const { sent, pending } = start();
  pending.connected();
  pending.add("one");
  pending.disconnected();
  pending.confirm("id1");
  pending.connected();
  assert.deepEqual(sent, ["id1 one"]);
});

test("messages from before a reload are sent", () => {
  const { sent, pending } = start([{ id: "old", text: "written offline", problem: null }]);
  pending.connected();
  assert.deepEqual(sent, ["old written offline"]);
});

test("after too many messages it pauses and sends the same one again", () => {
  const { clock, sent, pending } = start();
  pending.connected();
  pending.add("one");
  pending.add("two");
  pending.refuse(error("rate_limited"));
  assert.equal(pending.isSlowedDown, true);
  clock.pass(SLOW_DOWN_MS - 1);
  assert.deepEqual(sent, ["id1 one"]);
  clock.pass(1);
  assert.deepEqual(sent, ["id1 one", "id1 one"]);
  assert.equal(pending.isSlowedDown, false);
});

test("while the lobby is unavailable it tries again later", () => {
  const { clock, sent, pending } = start();
  pending.connected();
  pending.add("one");
  pending.refuse(error("unavailable", "id1"));
  pending.disconnected();
  pending.connected();
  assert.deepEqual(sent, ["id1 one"], "the pause outlasts the connection");
  clock.pass(2 * UNAVAILABLE_MS);
  assert.deepEqual(sent, ["id1 one", "id1 one"]);
});

test("a message without an answer is sent again", () => {
  const { clock, sent, pending } = start();
  pending.connected();
  pending.add("one");
  clock.pass(ANSWER_TIMEOUT_MS);
  assert.deepEqual(sent, ["id1 one", "id1 one"]);
});

test("a refused message stays with its reason, and does not block the next one", () => {
  const { sent, pending } = start();
  pending.connected();
  pending.add("long");
  pending.add("two");
  pending.refuse(error("text_too_long", "id1"));
  assert.deepEqual(sent, ["id1 long", "id2 two"]);
  assert.equal(pending.messages[0].problem, "because of text_too_long");
  pending.confirm("id2");
  pending.retry("id1");
  assert.equal(sent.at(-1), "id1 long");
  pending.refuse(error("bad_json"));
  pending.discard("id1");
  assert.deepEqual(texts(pending), []);
});

test("a message that is too long for the server is not sent for ever", () => {
  const { sent, pending } = start();
  pending.connected();
  pending.add("long");
  pending.refuseLast("too long");
  pending.disconnected();
  pending.connected();
  assert.deepEqual(sent, ["id1 long"]);
});

test("a muted user may write again when a message comes back", () => {
  const { pending } = start();
  pending.connected();
  pending.add("one");
  pending.refuse(error("muted", "id1"));
  assert.equal(pending.mutedReason, "because of muted");
  pending.retry("id1");
  pending.confirm("id1");
  assert.equal(pending.mutedReason, null);
});

test("an error about nothing that was sent changes nothing", () => {
  const { pending } = start();
  pending.connected();
  pending.refuse(error("rate_limited"));
  pending.refuse(error("bad_json"));
  pending.refuse(error("unknown_type"));
  assert.equal(pending.isSlowedDown, false);
});

// The connection: its states, the dead network, and the waits.

import assert from "node:assert/strict";
import test from "node:test";

import { delayMs, FIRST_MS, LONGEST_MS } from "../../src/web/js/backoff.js";
import {
  Connection,
  FIRST_FRAME_TIMEOUT_MS,
  OPEN_TIMEOUT_MS,
  PING_AFTER_MS,
  PONG_TIMEOUT_MS,
} from "../../src/web/js/connection.js";
import { Clock } from "./clock.js";

class FakeSocket {
  sent = [];
  closedWith = null;

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.closedWith = code;
  }

  /** The server accepts the websocket and sends the first frame. */
  join() {
    this.onopen();
    this.receive({ type: "users_online", msg: { list: [] } });
  }

  receive(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
  }
}

/** A started connection, and what it did. */
function start(refusal = { isFinal: false, message: "refused", retryAfterMs: 0 }) {
  const clock = new Clock();
  const seen = { clock, sockets: [], states: [], frames: [], ends: [], codes: [] };
  const renewed = { isTokenNew: false };
  const connection = new Connection({
    isTokenNew: () => renewed.isTokenNew,
    ...clock.environment,
    openSocket: () => {
      seen.sockets.push(new FakeSocket());
      return seen.sockets.at(-1);
    },
    findRefusal: async () => refusal,
    onState: ({ name }) => seen.states.push(name),
    onFrame: (frame) => seen.frames.push(frame.type),
    onClose: (code) => seen.codes.push(code),
    onEnd: (reason) => seen.ends.push(reason),
  });
  connection.start();
  return { ...seen, renewed, connection, socket: () => seen.sockets.at(-1) };
}

/** Lets the promise of `findRefusal` be handled. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

test("the wait doubles up to a bound, and is random within its upper half", () => {
  assert.equal(delayMs(1, 1), FIRST_MS);
  assert.equal(delayMs(2, 1), 2 * FIRST_MS);
  assert.equal(delayMs(1, 0), FIRST_MS / 2);
  assert.equal(delayMs(1000, 1), LONGEST_MS);
  assert.equal(delayMs(1000, 0), LONGEST_MS / 2);
});

test("the connection is online from the first frame on, and passes frames on", () => {
  const seen = start();
  assert.deepEqual(seen.states, ["connecting"]);
  seen.socket().onopen();
  assert.equal(seen.connection.send({}), false);
  seen.socket().join();
  assert.deepEqual(seen.states, ["connecting", "online"]);
  assert.equal(seen.connection.send({ type: "chat_message" }), true);
  assert.deepEqual(seen.socket().sent, [{ type: "chat_message" }]);
  assert.deepEqual(seen.frames, ["users_online"]);
});

test("after a lost connection it connects again, and waits longer after each failure", async () => {
  const seen = start();
  seen.socket().join();
  seen.socket().onclose({ code: 1012, reason: "the server restarts" });
  assert.deepEqual(seen.states, ["connecting", "online", "offline"]);
  seen.clock.pass(FIRST_MS - 1);
  assert.equal(seen.sockets.length, 1);
  seen.clock.pass(1);
  assert.equal(seen.sockets.length, 2);

  seen.socket().onclose({ code: 1006, reason: "" });
  await settle();
  seen.clock.pass(2 * FIRST_MS - 1);
  assert.equal(seen.sockets.length, 2);
  seen.clock.pass(1);
  assert.equal(seen.sockets.length, 3);

  seen.socket().join();
  seen.socket().onclose({ code: 1011, reason: "" });
  seen.clock.pass(FIRST_MS);
  assert.equal(seen.sockets.length, 4, "a success ends the row of failures");
});

test("a silent network is given up within 25 seconds", () => {
  const seen = start();
  seen.socket().join();
  seen.clock.pass(PING_AFTER_MS);
  assert.deepEqual(seen.socket().sent, [{ type: "ping" }]);
  seen.clock.pass(PONG_TIMEOUT_MS);
  assert.equal(seen.states.at(-1), "offline");
  assert.notEqual(seen.sockets[0].closedWith, null);
  assert.ok(PING_AFTER_MS + PONG_TIMEOUT_MS <= 25_000);
  seen.clock.pass(FIRST_MS);
  assert.equal(seen.sockets.length, 2);
});

test("any frame shows that the network works", () => {
  const seen = start();
  seen.socket().join();
  for (let second = 0; second < 100; second += 10) {
    seen.clock.pass(10_000);
    seen.socket().receive({ type: "user_joined" });
  }
  assert.deepEqual(seen.socket().sent, []);
  for (let ping = 1; ping <= 5; ping += 1) {
    seen.clock.pass(PING_AFTER_MS);
    assert.equal(seen.socket().sent.length, ping);
    seen.clock.pass(PONG_TIMEOUT_MS - 1);
    seen.socket().receive({ type: "pong" });
  }
  assert.equal(seen.states.at(-1), "online");
  assert.ok(!seen.frames.includes("pong"));
});

test("a websocket that does not open is given up, and its late events are ignored", () => {
  const seen = start();
  seen.clock.pass(OPEN_TIMEOUT_MS);
  assert.equal(seen.states.at(-1), "offline");
  seen.sockets[0].join();
  seen.sockets[0].onclose({ code: 1008, reason: "late" });
  assert.deepEqual([seen.frames, seen.ends], [[], []]);
});

test("an open websocket may wait long for the first frame, as in a join burst", () => {
  const seen = start();
  seen.clock.pass(OPEN_TIMEOUT_MS - 1);
  seen.socket().onopen();
  seen.clock.pass(FIRST_FRAME_TIMEOUT_MS - 1);
  assert.deepEqual(seen.states, ["connecting"]);
  seen.socket().receive({ type: "users_online", msg: { list: [] } });
  assert.deepEqual(seen.states, ["connecting", "online"]);

  const silent = start();
  silent.socket().onopen();
  silent.clock.pass(FIRST_FRAME_TIMEOUT_MS);
  assert.equal(silent.states.at(-1), "offline");
});

test("a refused token and the close code 1008 end the connection", async () => {
  const refused = start({ isFinal: true, message: "the token is not valid", retryAfterMs: 0 });
  refused.socket().onclose({ code: 1006, reason: "" });
  await settle();
  assert.deepEqual(refused.ends, ["the token is not valid"]);
  refused.clock.pass(LONGEST_MS);
  refused.connection.check();
  assert.equal(refused.sockets.length, 1);

  const expired = start();
  expired.socket().join();
  expired.socket().onclose({ code: 1008, reason: "token expired" });
  assert.deepEqual(expired.ends, ["token expired"]);
  expired.clock.pass(LONGEST_MS);
  assert.equal(expired.sockets.length, 1);
});

test("with a new token it comes back after the end of the old one", () => {
  const seen = start();
  seen.socket().join();
  seen.renewed.isTokenNew = true;
  seen.socket().onclose({ code: 1008, reason: "token expired" });
  seen.clock.pass(FIRST_MS);
  assert.deepEqual([seen.ends.length, seen.sockets.length], [0, 2]);
});

test("a new token does not bring back a user whom an administrator has removed", () => {
  for (const reason of ["kicked by an administrator: spam", "banned by an administrator", "too many messages"]) {
    const seen = start();
    seen.socket().join();
    seen.renewed.isTokenNew = true;
    seen.socket().onclose({ code: 1008, reason });
    assert.deepEqual(seen.ends, [reason]);
    seen.clock.pass(LONGEST_MS);
    assert.equal(seen.sockets.length, 1);
  }
});

test("it does not come back before the time in Retry-After", async () => {
  const seen = start({ isFinal: false, message: "full", retryAfterMs: 60_000 });
  seen.socket().onclose({ code: 1006, reason: "" });
  await settle();
  seen.clock.pass(59_999);
  assert.equal(seen.sockets.length, 1);
  seen.clock.pass(1);
  assert.equal(seen.sockets.length, 2);
});

test("a check connects at once, or sends a ping", () => {
  const seen = start();
  seen.socket().join();
  seen.connection.check();
  seen.connection.check();
  assert.deepEqual(seen.socket().sent, [{ type: "ping" }]);
  seen.clock.pass(PONG_TIMEOUT_MS);
  assert.equal(seen.states.at(-1), "offline");
  seen.connection.check();
  assert.equal(seen.sockets.length, 2);
  seen.clock.pass(FIRST_MS);
  assert.equal(seen.sockets.length, 2, "the wait that was cut short is over");
});

test("after a stop nothing happens", async () => {
  const seen = start();
  seen.connection.stop();
  assert.equal(seen.socket().closedWith, 1000);
  seen.clock.pass(10 * LONGEST_MS);
  await settle();
  assert.equal(seen.sockets.length, 1);
});

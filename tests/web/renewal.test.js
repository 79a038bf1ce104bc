// When the page asks for the password again.

import assert from "node:assert/strict";
import test from "node:test";

import { lifetime, RenewalTimer } from "../../src/web/js/renewal.js";
import { Clock } from "./clock.js";

const MINUTE = 60_000;
const token = (claims) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;

test("the lifetime of a token counts from the login, whatever the clock of the server", () => {
  const day = lifetime(token({ iat: 5, exp: 5 + 24 * 3600, username: "\u00c9va?>~" }), 1000);
  assert.deepEqual(day, { endsAt: 1000 + 24 * 60 * MINUTE, askAt: 1000 + (24 * 60 - 10) * MINUTE });
  const short = lifetime(token({ iat: 0, exp: 60 }), 0);
  assert.deepEqual(short, { endsAt: MINUTE, askAt: 50_000 });
});

test("a token that does not say how long it is valid has no lifetime", () => {
  for (const other of ["", "no token", "a.b.c", token({ exp: 5 }), token({ iat: 5, exp: 5 }), token({ iat: "x", exp: 5 })]) {
    assert.equal(lifetime(other, 0), null, other);
  }
});

test("the timer is due once, also after longer than a timer of a browser lasts", () => {
  const clock = new Clock();
  const timer = new RenewalTimer(clock.environment);
  let asked = 0;
  const days = 24 * 60 * MINUTE;
  timer.start(30 * days, () => (asked += 1));
  clock.pass(29 * days);
  assert.equal(asked, 0);
  clock.pass(days);
  assert.equal(asked, 1);
  timer.start(0, () => (asked += 1));
  assert.equal(asked, 2, "it is due already");
  timer.start(40 * days, () => (asked += 1));
  timer.stop();
  clock.pass(40 * days);
  assert.equal(asked, 2);
});

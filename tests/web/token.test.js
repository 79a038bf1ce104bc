// What the page reads from a token.

import assert from "node:assert/strict";
import test from "node:test";

import { claimsIn, usernameIn } from "../../src/web/js/token.js";

const token = (claims) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;

test("a token names its user", () => {
  assert.equal(usernameIn(token({ username: "Éva?>~ 日本" })), "Éva?>~ 日本");
  assert.equal(usernameIn(token({ sub: "7", preferred_username: "Ann", name: "Ann of Example" })), "Ann");
  assert.equal(usernameIn(token({ username: 7, name: "Ann" })), "Ann");
});

test("other texts name nobody", () => {
  for (const text of ["", "no token", "a.b.c", token(null), token({ sub: "7" })]) {
    assert.equal(usernameIn(text), "", text);
  }
  assert.equal(claimsIn("a.b.c"), null);
});

// The form that asks for the password again: what it does with the answer.

import assert from "node:assert/strict";
import test from "node:test";

import { RenewalForm } from "../../src/web/js/renewal-form.js";

/** It does not say how long it is valid, so no timer runs. */
const TOKEN = "a-token";
const REFUSED = { error: "wrong_credentials", message: "the password is wrong" };

/** The elements of the page that the form uses, and a server that answers when the test says so. */
function openPage() {
  const ids = ["renewal", "renew", "renewal-text", "renewal-password"];
  const elements = Object.fromEntries(ids.map((id) => [id, { hidden: false, disabled: false, value: "", textContent: "" }]));
  const page = { elements, sessions: [] };
  globalThis.document = { getElementById: (id) => elements[id] };
  globalThis.fetch = () =>
    new Promise((resolve) => {
      page.answer = (status, body) => resolve(new Response(JSON.stringify(body), { status }));
    });
  page.form = new RenewalForm(String, (session) => page.sessions.push(session));
  page.form.watch({ email: "ann@example.com", lifetime: null });
  page.submit = () => elements.renewal.onsubmit({ preventDefault: () => {} });
  return page;
}

test("the password continues the session", async () => {
  const page = openPage();
  const submitted = page.submit();
  assert.equal(page.elements.renew.disabled, true);
  page.answer(200, { token: TOKEN, username: "Ann" });
  await submitted;
  assert.deepEqual(page.sessions.map(({ token, email }) => [token, email]), [[TOKEN, "ann@example.com"]]);
  assert.deepEqual([page.elements.renew.disabled, page.elements.renewal.hidden], [false, true]);
});

test("an answer after the user has logged out changes nothing", async () => {
  for (const [status, body] of [[200, { token: TOKEN, username: "Ann" }], [401, REFUSED]]) {
    const page = openPage();
    const submitted = page.submit();
    page.form.stop();
    assert.equal(page.elements.renew.disabled, false);
    page.answer(status, body);
    // The form of the next session waits for an answer, too.
    page.elements.renew.disabled = true;
    await submitted;
    assert.deepEqual([page.sessions, page.elements["renewal-text"].textContent], [[], ""]);
    assert.equal(page.elements.renew.disabled, true);
  }
});

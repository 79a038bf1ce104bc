// Links, names and the status line.

import assert from "node:assert/strict";
import test from "node:test";

import { splitLinks } from "../../src/web/js/links.js";
import { colour, COLOURS, initials, sortKey } from "../../src/web/js/names.js";
import { describeStatus } from "../../src/web/js/status.js";

const links = (text) => splitLinks(text).flatMap(({ text, href }) => (href === null ? [] : [text]));

test("links are found without what ends the sentence", () => {
  for (const [text, found] of [
    ["see https://example.org/a?b=c#d.", ["https://example.org/a?b=c#d"]],
    ["(https://example.org/a_(b))", ["https://example.org/a_(b)"]],
    ["http://a.example, HTTPS://b.example!", ["http://a.example", "HTTPS://b.example"]],
    ["<https://example.org>", ["https://example.org"]],
    ["https://example.org/\u2026", ["https://example.org/"]],
    ["http://localhost:8080/x", ["http://localhost:8080/x"]],
    ["example.org ftp://example.org mailto:a@example.org", []],
    ["javascript:alert(1) data:text/html,x", []],
    ["javascript:alert('https://example.org')", ["https://example.org"]],
    ["xhttps://example.org https:// http://", []],
    ["https://[::1", []],
    ["", []],
  ]) {
    assert.deepEqual(links(text), found, text);
  }
});

test("the parts of a text are the text", () => {
  for (const text of ["a https://b.example c", "https://a.example", "<b>https://a.example</b>)", "a\n\nb", ""]) {
    assert.equal(splitLinks(text).map((part) => part.text).join(""), text);
  }
});

test("links have the schemes http and https only, and are found in linear time", () => {
  const hrefs = splitLinks("https://a.example/<script> http://b.example/\"onclick").map(({ href }) => href);
  assert.ok(hrefs.every((href) => href === null || /^https?:\/\//.test(href)));
  assert.equal(splitLinks("https://a.example/" + "(".repeat(4000) + ")".repeat(4000)).length, 1);
});

test("initials are characters as readers see them", () => {
  for (const [name, expected] of [
    ["Ann", "A"],
    ["ann lee", "AL"],
    ["Ann van der Lee", "AL"],
    ["ann_lee", "AL"],
    ["\u0645\u0631\u064a\u0645 \u062d\u0633\u0646", "\u0645\u062d"],
    ["\u{1F469}\u200D\u{1F680} Ada", "\u{1F469}\u200D\u{1F680}A"],
    ["...", "."],
    ["e\u0301va", "E\u0301"],
  ]) {
    assert.equal(initials(name), expected, name);
  }
});

test("a name has one of the colours, always the same", () => {
  for (const name of ["", "Ann", "x".repeat(64), "\u{1F469}"]) {
    assert.ok(Number.isInteger(colour(name)) && colour(name) >= 0 && colour(name) < COLOURS, name);
    assert.equal(colour(name), colour(name));
  }
});

test("the key of a name ignores case and accents", () => {
  assert.equal(sortKey("\u00c9VA"), sortKey("eva"));
  assert.ok(sortKey("ann") < sortKey("Bob"));
});

test("the status says what matters most", () => {
  const online = { name: "online", reason: "" };
  const offline = { name: "offline", reason: "the server restarts: join again" };
  assert.equal(describeStatus(online, false, null).short, "Online");
  assert.equal(describeStatus(online, false, null).text, "");
  assert.equal(describeStatus(online, true, null).short, "Slowed down");
  assert.equal(describeStatus(online, true, "muted by an admin").short, "Muted");
  assert.ok(describeStatus(online, true, "muted by an admin").text.includes("muted by an admin."));
  assert.equal(describeStatus(offline, true, "muted").short, "Offline");
  assert.ok(describeStatus(offline, false, null).text.includes("the server restarts."));
  assert.ok(describeStatus(offline, false, null).canRetry);
  assert.deepEqual(Object.values(describeStatus({ name: "connecting", reason: "" }, false, null)), ["waiting", "Connecting", "", false]);
  const again = describeStatus({ ...offline, name: "connecting" }, false, null);
  assert.equal(again.text, describeStatus(offline, false, null).text, "the text stays while the page tries again");
});

// Makes the elements of the entries of the timeline, and of the messages that are not confirmed yet.

import { avatar } from "./avatar.js";
import { element, nameElement } from "./dom.js";
import { splitLinks } from "./links.js";
import { sentence } from "./status.js";

/** The elements of one entry. `texts` formats times. */
export function entryElement(entry, texts) {
  const row = element("li", { className: `entry ${entry.kind}` });
  if (entry.startsDay) row.append(element("p", { className: "day" }, texts.dayText(entry.at, Date.now())));
  if (entry.startsUnread) row.append(element("p", { className: "day unread" }, "New messages"));
  if (entry.kind === "message") row.append(messageElement(entry, texts));
  if (entry.kind === "presence") row.append(presenceElement(entry, texts));
  if (entry.kind === "note") row.append(element("p", { className: "line" }, entry.text));
  return row;
}

function messageElement({ from, text, at, isOwn, startsGroup }, texts) {
  const time = element("time", { dateTime: new Date(at).toISOString(), title: texts.fullText(at) }, texts.timeText(at));
  const head = headElement(from, isOwn);
  head.append(time);
  // Later messages of a group show their time on hover; a screen reader reads name and time of each.
  if (!startsGroup) head.classList.add("hidden-text");
  const body = element("div", { className: "body" }, head, textElement(text));
  const className = `said${isOwn ? " own" : ""}${startsGroup ? " starts-group" : ""}`;
  const side = startsGroup ? avatar(from) : sideElement(texts.clockText(at));
  return element("article", { className }, side, body);
}

function headElement(from, isOwn) {
  const head = element("div", { className: "head" }, nameElement(from));
  if (isOwn) head.append(element("span", { className: "small" }, "you"));
  return head;
}

/** Stands beside a later message of a group, where the first one has the avatar. */
function sideElement(time) {
  const copy = element("span", { className: "side-time" }, time);
  copy.ariaHidden = "true";
  return copy;
}

/** A text with its links. Each paragraph has its own direction. */
export function textElement(text) {
  const parts = splitLinks(text).map((part) => {
    if (part.href === null) return part.text;
    return element("a", { href: part.href, target: "_blank", rel: "noopener noreferrer nofollow" }, part.text);
  });
  return element("p", { className: "text", dir: "auto" }, ...parts);
}

function presenceElement({ group, at }, texts) {
  const line = element("p", { className: "line" });
  group.parts().forEach(({ names, others, did }, index) => {
    if (index > 0) line.append(" · ");
    names.forEach((name, position) => {
      const isLast = position === names.length - 1 && others === 0;
      if (position > 0) line.append(isLast ? " and " : ", ");
      line.append(nameElement(name));
    });
    if (others > 0) line.append(` and ${others.toLocaleString()} ${others === 1 ? "other" : "others"}`);
    line.append(` ${did}`);
  });
  line.append(" ", element("time", { className: "small", dateTime: new Date(at).toISOString() }, texts.timeText(at)));
  return line;
}

/**
 * A message that the lobby has not confirmed, in the place and the form that it has later.
 * `look`: `{ startsGroup, isLate }`; a message that is not late does not say that it is not sent.
 * `actions`: `retry(id)`, `edit(id)` and `discard(id)`.
 */
export function pendingElement({ id, text, problem }, username, { startsGroup, isLate }, actions) {
  const body = element("div", { className: "body" }, textElement(text));
  if (startsGroup) body.prepend(headElement(username, true));
  const row = element("li", { className: "said own" }, startsGroup ? avatar(username) : sideElement(""), body);
  row.classList.toggle("starts-group", startsGroup);
  row.classList.toggle("refused", problem !== null);
  if (problem === null) {
    if (isLate) body.append(element("p", { className: "small" }, "Not sent yet"));
    return row;
  }
  const button = (label, act) => element("button", { type: "button", className: "quiet", onclick: () => act(id) }, label);
  const buttons = [button("Try again", actions.retry), button("Edit", actions.edit), button("Discard", actions.discard)];
  body.append(element("div", { className: "small actions" }, element("p", {}, `Not sent: ${sentence(problem)}`), ...buttons));
  return row;
}

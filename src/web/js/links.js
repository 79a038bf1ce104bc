// Finds links in a text. The result is data for text nodes and `href` attributes, never markup.

const LINK = /https?:\/\/[^\s<>"'`]+/gi;
/** What ends a sentence and not a link. */
const TRAILING = /[.,;:!?\u2026*_~]$/;
const PAIRS = { ")": "(", "]": "[", "}": "{" };

/** Splits a text into parts `{ text, href }`. `href` is null, except for links with `http` or `https`. */
export function splitLinks(text) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    // Within a word, as in `xhttp://`, it is no link.
    if (index > 0 && /[\p{L}\p{N}]/u.test(text[index - 1])) continue;
    const link = withoutTrailing(found);
    const href = checkedUrl(link);
    if (href === null) continue;
    if (index > end) parts.push({ text: text.slice(end, index), href: null });
    parts.push({ text: link, href });
    end = index + link.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end), href: null });
  return parts;
}

/** A closing bracket belongs to the link only if the link has the opening one. */
function withoutTrailing(link) {
  for (;;) {
    const last = link.at(-1);
    const opening = PAIRS[last];
    const isUnpaired = opening !== undefined && link.split(last).length > link.split(opening).length;
    if (!isUnpaired && !TRAILING.test(link)) return link;
    link = link.slice(0, -1);
  }
}

function checkedUrl(link) {
  try {
    const url = new URL(link);
    return ["http:", "https:"].includes(url.protocol) && url.hostname ? url.href : null;
  } catch {
    return null;
  }
}

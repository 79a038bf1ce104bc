// What the page derives from the name of a user: initials, the colour of the avatar, and a key to sort and search by.

/** Classes `colour-0` to `colour-11` in style.css. */
export const COLOURS = 12;

const segmenter = Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity: "grapheme" }) : null;

/** The first characters, as a reader sees them, of the first and of the last word. */
export function initials(name) {
  const words = name.split(/[\s_.\-]+/u).filter(Boolean);
  const chosen = words.length > 1 ? [words[0], words.at(-1)] : words;
  const letters = chosen.map(firstCharacter).join("").toLocaleUpperCase();
  return letters || firstCharacter(name);
}

function firstCharacter(word) {
  const characters = segmenter ? segmenter.segment(word)[Symbol.iterator]() : [...word].values();
  const first = characters.next().value;
  return first?.segment ?? first ?? "";
}

/** The number of a colour: the same for the same name on every page. */
export function colour(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return hash % COLOURS;
}

/** Names in the order of their keys are in alphabetical order, without regard to case and accents. */
export function sortKey(name) {
  return name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

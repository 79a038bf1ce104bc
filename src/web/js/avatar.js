// The picture beside a name: initials on a colour. Decorative: the name stands beside it.

import { element } from "./dom.js";
import { colour, initials } from "./names.js";

export function avatar(name) {
  const made = element("span", { className: `avatar colour-${colour(name)}` }, initials(name));
  made.ariaHidden = "true";
  return made;
}

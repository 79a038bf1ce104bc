// Small helpers for elements. Texts of users become text nodes; nothing here parses markup.

export const byId = (id) => document.getElementById(id);

/** Creates an element. `properties` are assigned; `children` are elements or texts. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A name of a user, isolated from the text around it whatever its direction. */
export function nameElement(name) {
  return element("bdi", { className: "name" }, name);
}

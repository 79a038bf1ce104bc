// What a token says about itself. Only the server can check it. Pure.

/** The claims in which issuers put the name that others see, the first one that a token has. */
const NAMES = ["username", "preferred_username", "nickname", "name"];

/** The claims of a token, or null if it has none that can be read. */
export function claimsIn(token) {
  try {
    const [, payload] = token.split(".");
    const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/** The name of the user, or an empty text if the token has it elsewhere. */
export function usernameIn(token) {
  const claims = claimsIn(token) ?? {};
  return NAMES.map((name) => claims[name]).find((name) => typeof name === "string") ?? "";
}

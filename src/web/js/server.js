// The requests to the server. Paths are relative, so that a proxy can serve the page below another path.

import { lifetime } from "./renewal.js";
import { usernameIn } from "./token.js";

const TIMEOUT_MS = 15_000;
/** `/join` accepts the token, and would accept a websocket. */
const UPGRADE_REQUIRED = 426;
/** The token is refused, or the user or the page is not allowed to join. */
const FINAL = [401, 403];

/** An error answer, with a text for the user. `code`: of the server, or undefined. */
export class Refused extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

export async function createUser(account) {
  await post("createUser", account);
}

/** Returns the session: `{ token, username, email, lifetime }`. */
export async function logIn({ email, password }) {
  const { token, username } = await post("login", { email, password });
  return { token, username, email, lifetime: lifetime(token, Date.now()) };
}

/** A session with a token of an outside issuer, if the server accepts it. There is no password to renew it with. */
export async function useToken(token) {
  if (!/^[!-~]+$/.test(token)) throw new Refused("This is no token: it contains a space, or a character that tokens do not have.");
  const { status, message } = await askJoin(token);
  if (status !== UPGRADE_REQUIRED) throw new Refused(message);
  return { token, username: usernameIn(token), email: null, lifetime: lifetime(token, Date.now()) };
}

async function post(path, body) {
  let response;
  let answer;
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    response = await fetch(path, { method: "POST", body: JSON.stringify(body), signal });
    answer = await response.json();
  } catch {
    throw new Refused("The server does not answer. Try again in a moment.");
  }
  if (!response.ok) throw new Refused(answer.message, answer.error);
  return answer;
}

/** Opens the websocket. A page cannot set a header here, so it sends the token as a subprotocol. */
export function openLobby(token, lastId, lastCount) {
  const url = new URL("join", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (lastId === null) url.searchParams.set("last", lastCount);
  else url.searchParams.set("after", lastId);
  return new WebSocket(url, ["ich", "bearer." + token]);
}

/** Why the server refused a websocket. */
export async function findRefusal(token) {
  const { status, message, retryAfterMs } = await askJoin(token);
  return { isFinal: FINAL.includes(status), message, retryAfterMs };
}

/** Asks the server whether it would accept a websocket, with a plain request for the same path. */
async function askJoin(token) {
  try {
    const response = await getWithToken("join", token);
    const retryAfterMs = 1000 * (Number(response.headers.get("Retry-After")) || 0);
    const { status } = response;
    const { message } = status === UPGRADE_REQUIRED ? { message: "No websocket can be opened." } : await response.json();
    return { status, message, retryAfterMs };
  } catch {
    return { status: null, message: "The server does not answer.", retryAfterMs: 0 };
  }
}

/**
 * A page of earlier messages: `{ status, body }`. `body` is null if the answer is not JSON. `before` is null for the newest
 * ones.
 */
export async function fetchHistory(token, before, limit) {
  const query = before === null ? { limit } : { before, limit };
  const response = await getWithToken(`history?${new URLSearchParams(query)}`, token);
  return { status: response.status, body: await response.json().catch(() => null) };
}

function getWithToken(path, token) {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  return fetch(path, { headers: { Authorization: `Bearer ${token}` }, signal });
}

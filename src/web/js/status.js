// What the page tells the user about the connection. Pure.

/**
 * @param connection the state of the connection: `{ name, reason }`
 * @param isSlowedDown the server dropped a message because there were too many
 * @param mutedReason why the user may not write, or null
 * @returns `{ level, short, text, canRetry }`: `short` for the header, `text` for the banner (empty: no banner)
 */
export function describeStatus(connection, isSlowedDown, mutedReason) {
  if (connection.name !== "online") {
    const isOffline = connection.name === "offline";
    const short = isOffline ? "Offline" : "Connecting";
    const text = connection.reason ? lostText(connection.reason) : "";
    return { level: isOffline || text ? "problem" : "waiting", short, text, canRetry: isOffline };
  }
  if (mutedReason !== null) {
    return { level: "problem", short: "Muted", text: `You cannot write now: ${sentence(mutedReason)}`, canRetry: false };
  }
  if (isSlowedDown) {
    const text = "You write faster than the server allows. Your messages are sent with a delay.";
    return { level: "waiting", short: "Slowed down", text, canRetry: false };
  }
  return { level: "good", short: "Online", text: "", canRetry: false };
}

/** The server says what happened and, behind a colon, what a client does about it. The page does it. */
function lostText(reason) {
  const [what] = reason.split(":");
  return `Not connected: ${sentence(what)} The page tries again by itself and sends what you write then.`;
}

/** A text of the server, with a full stop. */
export function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

// Fills a gap from `GET /history`: after a long absence, the server may no longer have all missed messages at hand, but
// still in its archive. Walks back from the oldest message that came, until the last one that the page knew.

/** Messages of one page, the most that the server allows. */
const PAGE = 100;
/** Pages at most. A user who missed more can still scroll in the conversation from before the gap. */
export const PAGES_MAX = 10;

/**
 * @param fetchPage `(before, limit)`: a promise of `{ status, body }`
 * @param before the id of the oldest message behind the gap; null: there is none, so the gap ends at the newest message
 * @param lastKnown the id of the last message before the gap
 * @returns a promise of `{ messages, isClosed }`: the newest message first, as the server sends them. `isClosed`: none is
 *   missing any more.
 */
export async function fillGap(fetchPage, before, lastKnown) {
  const messages = [];
  try {
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const { status, body } = await fetchPage(before, PAGE);
      if (status !== 200) break;
      const known = body.messages.findIndex(({ event_id }) => event_id === lastKnown);
      messages.push(...body.messages.slice(0, known === -1 ? undefined : known));
      if (known !== -1) return { messages, isClosed: true };
      if (!body.more || body.messages.length === 0) break;
      before = body.messages.at(-1).event_id;
    }
  } catch {
    // The network failed, or the answer of a proxy is not JSON.
  }
  return { messages, isClosed: false };
}

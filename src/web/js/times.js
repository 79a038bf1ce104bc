// Times as people read them, in the time zone and the language of the browser.

/** Makes the functions below for a language and a time zone; both undefined: those of the browser. */
export function timeTexts(language, timeZone) {
  const short = new Intl.DateTimeFormat(language, { timeStyle: "short", timeZone });
  const full = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "medium", timeZone });
  const day = new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long", timeZone });
  const dayOfOtherYear = new Intl.DateTimeFormat(language, { dateStyle: "long", timeZone });
  // Sortable: 2026-11-23.
  const key = new Intl.DateTimeFormat("sv", { dateStyle: "short", timeZone });
  const dayKey = (at) => key.format(at);

  /** "Today", "Yesterday", or the date. */
  function dayText(at, now) {
    const [thatDay, today] = [dayKey(at), dayKey(now)];
    if (thatDay === today) return "Today";
    if (thatDay === dayKey(now - 24 * 3600 * 1000)) return "Yesterday";
    return (thatDay.slice(0, 4) === today.slice(0, 4) ? day : dayOfOtherYear).format(at);
  }

  /** The time without AM or PM, for a narrow place beside a message whose group shows the whole time. */
  function clockText(at) {
    const parts = short.formatToParts(at).filter(({ type }) => type !== "dayPeriod");
    return parts.map(({ value }) => value).join("").trim();
  }

  return { dayKey, dayText, timeText: (at) => short.format(at), fullText: (at) => full.format(at), clockText };
}

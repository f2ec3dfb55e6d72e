// What the headers of an answer say, where a page may read them.

/** Seconds of a `Retry-After`, or null. A date in it is counted from `now`. */
export function retryAfter(headers, now) {
  const text = headers && headers.get('retry-after');
  if (!text) return null;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3600) : null;
}

/** How far this clock is behind the server's, in milliseconds, by the header `Date` where it is readable; else null. */
export function clockOffset(headers, sent, received) {
  const date = Date.parse((headers && headers.get('date')) || '');
  // `Date` has whole seconds, cut: the middle of that second is the best guess.
  return Number.isNaN(date) ? null : date + 500 - (sent + received) / 2;
}

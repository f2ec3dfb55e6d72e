// What the host gives: a browser's window, or Node with a WebSocket of its choice.

/** The host's own things; `given` replaces parts of it. */
export function surroundings(given) {
  const host = globalThis;
  const env = { now: Date.now, random: Math.random, window: host.document && host };
  for (const name of ['WebSocket', 'crypto', 'document', 'location', 'navigator']) env[name] = host[name];
  for (const name of ['fetch', 'setTimeout', 'clearTimeout']) env[name] = host[name] && host[name].bind(host);
  return Object.assign(env, given);
}

/** Listens where there is something to listen to; what ends it goes into `ends`. */
export function listen(ends, target, type, run) {
  if (!target || !target.addEventListener) return;
  target.addEventListener(type, run);
  ends.push(() => target.removeEventListener(type, run));
}

// What the host gives: a browser's window, or Node with a WebSocket of its choice.

/** What the host gives. Replaced as a whole or in part by `environment`. */
export function surroundings(given = {}) {
  const host = globalThis;
  return {
    WebSocket: host.WebSocket,
    fetch: host.fetch && host.fetch.bind(host),
    setTimeout: (run, ms) => host.setTimeout(run, ms),
    clearTimeout: (timer) => host.clearTimeout(timer),
    now: () => Date.now(),
    random: () => Math.random(),
    crypto: host.crypto,
    document: host.document,
    location: host.location,
    navigator: host.navigator,
    window: host.document ? host : undefined,
    ...given,
  };
}

// Ready-made options.

/** Values for `Tidegate` and `ReconnectingSocket`. */
export const presets = {
  /** What the Django package advises its pages: 3 s to 10 s, factor 1.5, 5 s to open, no limit of tries. */
  django: { reconnectInterval: 3000, maxReconnectInterval: 10000, reconnectDecay: 1.5, timeoutInterval: 5000, maxReconnectAttempts: null },
  /** Alerts: a JWT in `token`, the texts `ping` and `pong`, and a dry run in place of a bare 1006. */
  alerts: { tokenParameter: 'token', control: false, heartbeat: { interval: 25, send: 'ping', expect: 'pong' }, dryRun: true },
  /** Amazon API Gateway: nothing that only Tidegate knows. */
  aws: { aws: true },
};

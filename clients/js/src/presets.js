// Ready-made options.

/** For `Tidegate`. */
export const presets = {
  /** Alerts: a JWT in `token`, the texts `ping` and `pong`, and a dry run in place of a bare 1006. */
  alerts: { tokenParameter: 'token', control: false, heartbeat: { send: 'ping', expect: 'pong' }, dryRun: true },
};

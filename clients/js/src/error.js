// The one error type of the client, the table of close codes in words, and the error forms that servers send.

/** Close codes in words: what it means, and what to do. */
const HINTS = {
  1000: 'The server ended the connection for good; 1000 means "do not come back".',
  1001: 'The other side goes away: idle limit, age limit, restart, or the page was left. Connect again.',
  1002: 'Broken framing. Something between client and gateway changes the stream, or compression is negotiated by one side only.',
  1003: 'The gateway does not take binary messages here. Send text.',
  1005: 'Closed without a code, usually by the other program on purpose.',
  1006: 'No close frame: the handshake was refused, or the connection was lost. A browser is not told which.',
  1007: 'A text message was not UTF-8.',
  1008: 'A rule of the gateway ended the connection: token expired, access revoked, session ended, too many messages, or too slow.',
  1009: 'A message or frame was too large (128 KB a message, 32 KB a frame). Send a reference and fetch over HTTPS.',
  1010: 'The client wanted an extension that the server does not speak.',
  1011: 'Fault of the server.',
  1012: 'The gateway restarts. Connect again.',
  1013: 'The gateway is full. Connect again later.',
  1015: 'TLS failed: check the certificate.',
  4001: 'Not logged in, or the token was refused. Log in again and fetch a fresh token.',
  4002: 'Not permitted: no member of the room, or not its owner.',
  4003: 'The event was malformed: a field is missing, or of the wrong type.',
  4004: 'The room or message does not exist.',
  4005: 'It exists already.',
  4006: 'Fault of the server.',
};

/** Statuses of a refused handshake in words. */
const STATUS_HINTS = {
  400: 'The handshake was refused as malformed: token, channel name, or what the backend demands.',
  401: 'The handshake was refused: no proof of identity.',
  403: 'The handshake was refused: token, origin or permission, or no such API or stage.',
  404: 'Nothing is served at this path.',
  426: 'A proxy removed the Upgrade header, or the address is not for WebSockets.',
  429: 'Too many attempts or connections. Wait.',
  500: 'Fault of the server.',
  502: 'The backend could not be reached.',
  503: 'The gateway is full, or restarts.',
  504: 'The backend did not answer in time.',
};

/** What a close code means, in one or two sentences, or an empty text. */
export function hintFor(code) {
  if (code >= 4400 && code < 4600) return STATUS_HINTS[code - 4000] || `The handshake was refused with ${code - 4000}.`;
  return HINTS[code] || (code >= 3000 && code < 5000 ? 'A code of the application.' : '');
}

/** What the status of a refused handshake means. */
export const hintForStatus = (status) => STATUS_HINTS[status] || `The handshake was answered with ${status}.`;

/**
 * Everything that goes wrong is one of these.
 *
 * It never holds a URL, a token or a payload. `code` is the close code, or that of a chat error. DX-76.
 */
export class TidegateError extends Error {
  constructor(sentence, facts = {}) {
    const { cause, ...rest } = facts;
    const id = rest.diagnosis && rest.diagnosis.id;
    super(sentence + (id ? ` [${id}]` : '') + (rest.reference ? ` (reference ${rest.reference})` : ''));
    // Not enumerable: it is the page's own error, and whoever sends this object away does not want it along.
    if (cause !== undefined) Object.defineProperty(this, 'cause', { value: cause });
    Object.assign(
      this,
      {
        phase: 'never-opened',
        code: null,
        reason: '',
        reference: null,
        attempt: 0,
        lastGoodAt: null,
        diagnosis: null,
        hint: '',
        status: null,
        requestId: null,
        dryRun: null,
        detail: null,
        retryAfter: null,
        final: false,
      },
      rest,
    );
  }

  get name() {
    return 'TidegateError';
  }

  toJSON() {
    return { name: this.name, message: this.message, ...this };
  }
}

/** A diagnosis of the client: `proven` when the proof was seen, else `likely`. */
export const diagnosed = (id, message, confidence = 'proven') => ({ id, message, confidence });

/** The error of a known cause, before an attempt reaches the network. */
export const failure = (id, message, facts) => new TidegateError(message, { ...facts, diagnosis: diagnosed(id, message) });

/**
 * One line out of whatever `detail` is: a text, a list of texts, or fields with lists of texts, nested.
 *
 * Cut at 500 characters.
 */
export function flatten(detail, depth = 0) {
  let text;
  if (detail === null || detail === undefined) text = '';
  else if (typeof detail !== 'object') text = String(detail);
  else if (depth > 4) text = '...';
  else if (Array.isArray(detail)) text = detail.map((part) => flatten(part, depth + 1)).join(' ');
  else text = Object.entries(detail).map(([name, part]) => `${name}: ${flatten(part, depth + 1)}`).join('; ');
  return text.slice(0, 500);
}

/**
 * The error in a message of the server, or null.
 *
 * Known forms: `{"error": {"code", "detail"}}` and `{"error": "text"}` of the chat, and the gateway's
 * `{"message", "connectionId", "requestId"}`.
 */
export function readServerError(message) {
  if (!message || typeof message !== 'object' || Array.isArray(message)) return null;
  const { error } = message;
  if (typeof error === 'string') return { form: 'text', code: null, detail: error, text: error, requestId: null };
  if (error && typeof error === 'object' && Number.isInteger(error.code) && 'detail' in error) {
    return { form: 'object', code: error.code, detail: error.detail, text: flatten(error.detail), requestId: message.requestId || null };
  }
  // Nothing but these three members: an application's own message may have them too, among others.
  const own = ['message', 'connectionId', 'requestId'].every((name) => typeof message[name] === 'string');
  if (own && Object.keys(message).length === 3) {
    return { form: 'gateway', code: null, detail: message.message, text: message.message, requestId: message.requestId };
  }
  return null;
}

/** What the gateway's own texts for a failed message mean. */
export const GATEWAY_TEXTS = {
  Forbidden: 'No route of the API takes this message; the connection stays open.',
  'Internal server error': 'The backend failed on this message.',
  'Endpoint request timed out': 'The backend did not answer this message in time.',
  'Message too long': 'The message was over 128 KB.',
};

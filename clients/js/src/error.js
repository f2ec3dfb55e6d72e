// The one error type of the client, the table of close codes in words, and the error forms that servers send.

/** Close codes in words: what it means, and what to do. */
const HINTS = {
  1000: 'Ended for good: 1000 means do not come back.',
  1001: 'The other side goes away.',
  1002: 'Broken framing.',
  1003: 'No binary messages here.',
  1005: 'Closed without a code.',
  1006: 'Refused or lost; a browser is told no more.',
  1007: 'A text was not UTF-8.',
  1008: 'Closed by a rule.',
  1009: 'Message over 128 KB, or frame over 32 KB.',
  1011: 'Fault of the server.',
  1012: 'The gateway restarts.',
  1013: 'The gateway is full.',
  1015: 'TLS failed.',
  4001: 'Not logged in.',
  4002: 'Not permitted.',
  4003: 'A field is missing or wrong.',
  4004: 'No such room or message.',
  4005: 'It exists already.',
  4006: 'Fault of the server.',
};

/** Statuses of a refused handshake in words. */
const STATUS_HINTS = {
  400: 'Malformed: token or channel.',
  401: 'No proof of identity.',
  403: 'Token, origin or permission, or no such API or stage.',
  404: 'Nothing is at this path.',
  426: 'No Upgrade header arrived.',
  429: 'Too many attempts. Wait.',
  502: 'The backend could not be reached.',
  503: 'The gateway is full.',
  504: 'The backend did not answer in time.',
};

/** What the status of a refused handshake means. */
export const hintForStatus = (status) => STATUS_HINTS[status] || `The handshake was answered with ${status}.`;

/** What a close code means, in one sentence or two, or an empty text. */
export const hintFor = (code) =>
  HINTS[code] || (code >= 4400 && code < 4600 ? hintForStatus(code - 4000) : code >= 3000 && code < 5000 ? 'A code of the application.' : '');

const MEMBERS = {
  phase: 'never-opened', code: null, reason: '', reference: null, attempt: 0, lastGoodAt: null, diagnosis: null, hint: '',
  status: null, requestId: null, dryRun: null, detail: null, retryAfter: null, final: false,
};

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
    Object.assign(this, MEMBERS, rest);
    // Not enumerable: it is the page's own error, and whoever sends this object away does not want it along.
    if (cause !== undefined) Object.defineProperty(this, 'cause', { value: cause });
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
  const parts =
    depth > 4 ? ['...']
    : Array.isArray(detail) ? detail.map((part) => flatten(part, depth + 1))
    : detail && typeof detail === 'object' ? [Object.entries(detail).map(([name, part]) => `${name}: ${flatten(part, depth + 1)}`).join('; ')]
    : [detail ?? ''];
  return parts.join(' ').slice(0, 500);
}

/**
 * The error in a message of the server, or null.
 *
 * Known forms: `{"error": {"code", "detail"}}` and `{"error": "text"}` of the chat, and the gateway's
 * `{"message", "connectionId", "requestId"}`.
 */
export function readServerError(message) {
  const { error, message: text, requestId = null } = message || {};
  const found = (form, code, detail) => ({ form, code, detail, text: flatten(detail), requestId });
  if (!message || Array.isArray(message)) return null;
  if (typeof error === 'string') return found('text', null, error);
  if (error && Number.isInteger(error.code) && 'detail' in error) return found('object', error.code, error.detail);
  // Nothing but these three members: an application's own message may have them too, among others.
  const isOwn = [text, message.connectionId, requestId].every((part) => typeof part === 'string') && Object.keys(message).length === 3;
  return isOwn ? found('gateway', null, text) : null;
}

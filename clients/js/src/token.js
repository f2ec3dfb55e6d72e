// Fetches a token as a page does, and says why it got none.

import { TidegateError, failure } from './error.js';
import { surroundings } from './environment.js';
import { clockOffset, retryAfter } from './headers.js';

const cookieOf = (document, name) => {
  const found = document && name && document.cookie.split('; ').find((pair) => pair.startsWith(`${name}=`));
  return found ? found.slice(name.length + 1) : null;
};

/**
 * A callback for `getToken`: asks `url` for a token each time, with the page's cookies and its CSRF token.
 *
 * The answer is `{"token": "..."}`. Whatever else comes is an error with a diagnosis `tokenreq.*`.
 */
export function tokenFrom(url, options = {}) {
  const {
    csrfCookie = 'csrftoken', csrfHeader = 'X-CSRFToken', sessionCookie, credentials = 'same-origin',
    method = 'POST', headers: extra = {}, field = 'token', environment,
  } = options;
  return async ({ signal, onClock } = {}) => {
    const env = surroundings(environment);
    const { document, location } = env;
    const csrf = csrfCookie && cookieOf(document, csrfCookie);
    const headers = { ...extra };
    if (csrf) headers[csrfHeader] = decodeURIComponent(csrf);
    const sent = env.now();
    let answer;
    try {
      answer = await env.fetch(url, { method, credentials, headers, signal, cache: 'no-store' });
    } catch (cause) {
      throw new TidegateError('The token request failed: network, TLS, or the other origin does not permit this page (CORS).', { cause });
    }
    const offset = clockOffset(answer.headers, sent, env.now());
    if (offset !== null && onClock) onClock(offset);
    const text = await answer.text().catch(() => '');
    const facts = { status: answer.status, retryAfter: retryAfter(answer.headers, env.now()), requestId: answer.headers.get('tidegate-request-id') };
    const fail = (id, sentence) => failure(`tokenreq.${id}`, sentence, facts);
    const isHtml = /html/.test(answer.headers.get('content-type') || '') || /^\s*</.test(text);
    if (answer.ok) {
      let token;
      try {
        token = JSON.parse(text)[field];
      } catch {
        token = null;
      }
      if (typeof token === 'string' && token) return token;
      if (isHtml) throw fail('wrong-url', 'The token address answered with a page: wrong address, or a redirect to the login.');
      throw new TidegateError(`The token endpoint answered without "${field}".`, facts);
    }
    if (answer.status === 429 || /rate limit exceeded/i.test(text)) {
      throw fail('rate-limited', 'Too many tokens were requested. Request one only before connecting.');
    }
    if (answer.status === 404 || answer.status === 405) throw fail('wrong-url', `The token address answered ${answer.status}: wrong address or method.`);
    if (answer.status === 403 && /csrf/i.test(text)) {
      if (/origin checking failed/i.test(text)) throw fail('csrf-origin', 'The site does not trust the origin of this page. Add it to the trusted origins.');
      if (csrf) throw fail('csrf-invalid', 'The CSRF token does not fit. It changes at login: read the current cookie.');
      if (csrfCookie) throw fail('csrf-cookie', `The page has no cookie "${csrfCookie}": its domain or SameSite keeps it away, or it is HttpOnly.`);
      throw fail('csrf-missing', `The header ${csrfHeader} was not sent.`);
    }
    if (answer.status === 401 || answer.status === 403) {
      const base = location && location.href;
      const isForeign = base && new URL(url, base).origin !== new URL(base).origin;
      if (credentials === 'omit' || (credentials === 'same-origin' && isForeign)) {
        throw fail('cookies-not-sent', 'The request was made without cookies. Use credentials: "include".');
      }
      if (sessionCookie && document && cookieOf(document, sessionCookie) === null) {
        throw fail('no-session-cookie', `The page has no cookie "${sessionCookie}". Log in on the same site.`);
      }
      if (/authentication required/i.test(text) || answer.status === 401) throw fail('anonymous', 'Nobody is logged in. Log in first.');
    }
    throw new TidegateError(`The token endpoint answered ${answer.status}.`, facts);
  };
}

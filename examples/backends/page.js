// ANCHOR: page
/** Opens a socket in a channel; its token comes from your backend, or from the gateway's token endpoint. */
async function openSocket(stage, channel, tokenUrl = "/ws-token") {
  const csrf = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1]; // Django's
  const headers = csrf ? { "X-CSRFToken": csrf } : {};
  const answer = await fetch(tokenUrl, { method: "POST", credentials: "include", headers });
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  const { token } = await answer.json();
  const query = new URLSearchParams({ ws_token: token, channel });
  return new WebSocket(`${stage}?${query}`);
}
// ANCHOR_END: page

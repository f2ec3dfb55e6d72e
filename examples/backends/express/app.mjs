// Express behind Tidegate. `PORT=8000 node app.mjs`, and `tidegate dev --backend http://127.0.0.1:8000/ws/`.

// ANCHOR: calls
const { TIDEGATE_ENDPOINT: ENDPOINT, TIDEGATE_ADMIN: ADMIN, TIDEGATE_KEY: KEY } = process.env;
const [api, stage] = ENDPOINT.replace(/\/$/, "").split("/").slice(-2);

async function call(url, body) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${answer.status} ${text}`);
  return text ? JSON.parse(text) : {};
}

/** Counts of who took it: { delivered: 2, gone: 0, slow: 0 }. */
export const push = (channel, message, query = {}) =>
  call(`${ENDPOINT}/@channels/${encodeURIComponent(channel)}?${new URLSearchParams(query)}`, message);

/** To all connections of a user. */
export const pushUser = (user, message) => call(`${ENDPOINT}/@users/${encodeURIComponent(user)}`, message);

export const issueToken = (user, login) => call(`${ADMIN}/api/tokens`, { api, stage, user, session: login });

export const endSession = (login) => call(`${ADMIN}/api/sessions/${encodeURIComponent(login)}/end`);
// ANCHOR_END: calls

// ANCHOR: gateway
import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import express from "express";

const hash = (text) => createHash("sha256").update(text).digest();
const SECRET = process.env.TIDEGATE_SECRET;
const events = express.Router();
events.use(express.text({ type: "*/*", limit: 131072 }), (request, response, next) => {
  const sent = request.get("X-Ws-Gateway-Secret") ?? "";
  if (SECRET && !timingSafeEqual(hash(sent), hash(SECRET))) return response.sendStatus(403);
  next();
});
// ANCHOR_END: gateway

// ANCHOR: events
events.post("/connect", (request, response) => response.status(request.query.channel === "general" ? 200 : 403).end());

events.post("/default", async (request, response) => {
  let data = null;
  try { data = JSON.parse(request.body); } catch { /* not JSON: no action */ }
  if (data?.action !== "say") return response.json({ type: "error", text: "actions: say" });
  await push("general", { type: "said", text: data.text }, { except: request.get("connectionId") });
  response.json({ type: "ok" });
});

events.post("/disconnect", async (request, response) => {
  await push("general", { type: "left", id: request.get("connectionId") });
  response.end();
});
// ANCHOR_END: events

const app = express();
app.use("/ws", events);

// Stands for your login: who has this cookie is that user.
app.get("/demo-login/:user", (request, response) => {
  response.cookie("demo", `${request.params.user}.${randomUUID()}`, { httpOnly: true }).status(204).end();
});
app.use((request, response, next) => {
  const cookie = /(?:^|; )demo=([^.;]+)\.([^;]+)/.exec(request.get("Cookie") ?? "");
  [, request.user, request.login] = cookie ?? [];
  next();
});

// ANCHOR: pages
app.post("/ws-token", async (request, response) => {
  if (!request.user) return response.sendStatus(403);
  response.json(await issueToken(request.user, request.login));
});

app.post("/logout", async (request, response) => {
  response.clearCookie("demo");
  if (request.login) await endSession(request.login);
  response.status(204).end();
});
// ANCHOR_END: pages

// Stands for your database's transactions.
const posts = [];
const transaction = async (work) => work(posts);

// ANCHOR: commit
app.post("/posts", express.json(), async (request, response) => {
  if (!request.user) return response.sendStatus(403);
  const post = await transaction((tx) => tx.push(request.body.text)); // has committed, or has thrown
  await push("general", { type: "post", id: post });
  await pushUser(request.user, { type: "saved", id: post });
  response.status(201).json({ id: post });
});
// ANCHOR_END: commit

app.listen(Number(process.env.PORT ?? 8000), "127.0.0.1");

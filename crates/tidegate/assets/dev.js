// The page of `tidegate dev`: the browser's own WebSocket, and what passes over it.

const element = (id) => document.getElementById(id);
const MAX_LINES = 1000;
let socket = null;

// Codes of RFC 6455, section 7.4, in the words of somebody who has to do something about it.
const MEANINGS = {
  1000: "closed normally",
  1001: "going away: a limit was reached, or the server restarts",
  1002: "protocol error",
  1003: "binary messages are not supported",
  1005: "closed without a code",
  1006: "no close frame: the handshake was refused or the network was lost",
  1007: "text was not UTF-8",
  1008: "refused by policy",
  1009: "message or frame too large",
  1011: "internal error",
  1012: "service restart",
};

function log(kind, text) {
  const list = element("log");
  const line = document.createElement("li");
  line.className = kind;
  line.textContent = text;
  list.append(line);
  while (list.childElementCount > MAX_LINES) list.firstElementChild.remove();
  line.scrollIntoView({ block: "nearest" });
}

function show(state, text) {
  element("status").dataset.state = state;
  element("status").textContent = text;
  element("send").disabled = state !== "open";
  element("close").disabled = state !== "open";
  element("connect").disabled = state === "connecting" || state === "open";
}

function connect() {
  try {
    socket = new WebSocket(element("url").value);
  } catch (error) {
    show("closed", `cannot connect: ${error.message}`);
    return;
  }
  show("connecting", "connecting");
  socket.onopen = () => {
    show("open", "open");
    log("note", "connected");
    element("message").focus();
  };
  socket.onmessage = (event) => log("in", `<- ${event.data}`);
  socket.onclose = (event) => {
    const text = `closed ${event.code}${event.reason ? ` ${event.reason}` : ""}`;
    show("closed", text);
    log("note", `${text} (${MEANINGS[event.code] ?? "a code of the application"})`);
  };
}

element("connection").addEventListener("submit", (event) => {
  event.preventDefault();
  connect();
});

element("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket?.readyState !== WebSocket.OPEN) return;
  const text = element("message").value;
  socket.send(text);
  log("out", `-> ${text}`);
});

element("close").addEventListener("click", () => socket?.close(1000));

const demo = await (await fetch("/dev.json")).json();
element("url").value = demo?.url ?? "";

// The dashboard: agents on the left, one conversation on the right, live by one stream.
// Text from models and people is only ever set as textContent, never as HTML.

const $ = (id) => document.getElementById(id);
const fromLink = new URLSearchParams(location.hash.slice(1)).get("token");
if (fromLink) {
  sessionStorage.setItem("token", fromLink);
  history.replaceState(null, "", location.pathname);
}
let token = sessionStorage.getItem("token");
let agent = sessionStorage.getItem("agent") ?? "scout";
let live = null; // the article into which the running answer streams
let lastEvent = 0;
let lastEntry = 0;

async function api(path, body, method = body ? "POST" : "GET") {
  const answer = await fetch(`/api/v1${path}`, {
    method,
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: body ? JSON.stringify(body) : undefined,
  });
  const data = await answer.json();
  if (answer.status === 401) signIn();
  if (!answer.ok) throw new Error(data.detail ?? answer.statusText);
  return data;
}

function signIn() {
  sessionStorage.removeItem("token");
  $("sign-in").hidden = false;
  document.querySelector("main").hidden = true;
}

function article(kind, text, status = "") {
  const element = document.createElement("article");
  element.className = `${kind} ${status}`;
  element.textContent = text;
  const log = $("history");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(element);
  if (atEnd) log.scrollTop = log.scrollHeight;
  return element;
}

const textOf = (entry) =>
  entry.content.map((block) => block.text ?? JSON.stringify(block.json)).join("\n");

// What an agent is told of itself and its tools is no part of the conversation.
const UNSPOKEN = ["system_prompt", "tools_config"];

function showEntry(entry) {
  lastEntry = Math.max(lastEntry, entry.id);
  if (UNSPOKEN.includes(entry.type)) return;
  const name = entry.tool_name ? `${entry.tool_name}: ` : "";
  const text = textOf(entry);
  if (text) article(entry.type, name + text, entry.status ?? "");
}

async function readHistory() {
  let from = `after=${lastEntry}`;
  for (;;) {
    const page = await api(`/agents/${agent}/history?${from}`);
    page.items.forEach(showEntry);
    if (!page.next_cursor) return;
    from = `cursor=${page.next_cursor}`;
  }
}

async function readState() {
  const state = await api("/state");
  $("processes").textContent = state.processes.map((each) => each.kind).join(" · ");
  $("agents").replaceChildren(...state.agents.map(agentButton));
  return state;
}

function agentButton(each) {
  const button = document.createElement("button");
  const state = document.createElement("small");
  button.textContent = each.id;
  state.textContent = each.unread ? `${each.state} ${each.unread}` : each.state;
  button.append(state);
  button.setAttribute("aria-current", String(each.id === agent));
  button.onclick = () => choose(each.id);
  return button;
}

async function choose(id) {
  agent = id;
  sessionStorage.setItem("agent", id);
  lastEntry = 0;
  live = null;
  $("history").replaceChildren();
  await Promise.all([readState(), readHistory()]);
}

async function hear(event) {
  lastEvent = event.id;
  if (["turn_start", "agent_end", "message"].includes(event.kind)) readState();
  if (event.scope !== `agent/${agent}`) return;
  if (event.kind === "message_start") live = article("assistant_message", "");
  if (event.kind === "message_update" && event.payload.kind === "text" && live)
    live.textContent += event.payload.text;
  if (event.kind === "message_end" || event.kind === "tool_execution_end" || event.kind === "turn_start") {
    live?.remove();
    live = null;
    await readHistory();
  }
  if (event.kind === "agent_end" && event.payload.error)
    $("notice").textContent = event.payload.error.message;
}

async function follow() {
  for (;;) {
    try {
      await followOnce();
    } catch (error) {
      $("notice").textContent = error.message;
    }
    $("link").className = "down";
    $("link").textContent = "reconnecting";
    await new Promise((done) => setTimeout(done, 1000));
  }
}

async function followOnce() {
  const answer = await fetch(`/api/v1/events/stream?after=${lastEvent}`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  if (!answer.ok) throw new Error(`The stream answered ${answer.status}.`);
  $("link").className = "up";
  $("link").textContent = "live";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const records = (rest + value).split("\n\n");
    rest = records.pop();
    for (const record of records) {
      const data = record.split("\n").find((line) => line.startsWith("data: {\"id\""));
      if (data) await hear(JSON.parse(data.slice(6)));
    }
  }
}

async function send(text) {
  try {
    await api(`/agents/${agent}/messages`, { text, source: "web" });
    $("notice").textContent = "";
  } catch (error) {
    $("notice").textContent = error.message;
    $("text").value = text;
  }
}

$("text").addEventListener("keydown", (key) => {
  if (key.key === "Enter" && !key.shiftKey && !key.isComposing) {
    key.preventDefault();
    const text = $("text").value.trim();
    $("text").value = "";
    if (text) send(text);
  }
  if (key.key === "Escape")
    api(`/agents/${agent}/interrupt`, {}).catch((error) => {
      $("notice").textContent = error.message;
    });
});

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  start();
});

async function start() {
  if (!token) return signIn();
  $("sign-in").hidden = true;
  document.querySelector("main").hidden = false;
  const state = await api("/state");
  lastEvent = state.newest_event_id;
  await choose(state.agents.some((each) => each.id === agent) ? agent : state.agents[0]?.id);
  follow();
}

start();

// The console: logs in, follows /v1/events, and shows and ends sessions.

import { ask } from "./api.js";
import { Chart } from "./chart.js";
import { byId, make, setText } from "./elements.js";
import { explain } from "./failures.js";
import { bitRate, bytes, count, duration, percent } from "./format.js";

const KEPT_SECONDS = 300;
const PAGE = 50;
const RETRY_MS = 3000;

let samples = [];
let shown = PAGE;
let events = null;
let listing = false;

const sum = (figures) => Object.values(figures).reduce((total, figure) => total + figure, 0);

function success({ traversals }) {
  const judged = (traversals.connected ?? 0) + (traversals.failed ?? 0);
  return judged ? traversals.connected / judged : null;
}

const charts = [
  new Chart(byId("sessions-chart"), { series: [({ sessions }) => sum(sessions)], format: count, least: 4 }),
  new Chart(byId("traffic-chart"), {
    series: [({ bytes_to_peer }) => bytes_to_peer, ({ bytes_from_peer }) => bytes_from_peer],
    keys: ["to peers", "from peers"],
    format: bitRate,
    least: 1000,
  }),
  new Chart(byId("success-chart"), { series: [success], format: percent, top: 1, least: 0 }),
];

// -- logging in --

byId("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = byId("token");
  setText(byId("login-error"), "");
  try {
    await ask("POST", "/v1/login", { token: field.value });
  } catch (error) {
    setText(byId("login-error"), error.message);
    field.setAttribute("aria-invalid", "true");
    field.select();
    return;
  }
  field.value = "";
  field.removeAttribute("aria-invalid");
  showBoard();
  byId("main").focus({ preventScroll: true });
});

byId("log-out").addEventListener("click", async () => {
  await ask("POST", "/v1/logout");
  showLogin();
});

function showLogin() {
  events?.close();
  events = null;
  byId("board").hidden = true;
  byId("log-out").hidden = true;
  byId("login").hidden = false;
  byId("token").focus();
}

function showBoard() {
  byId("login").hidden = true;
  byId("board").hidden = false;
  byId("log-out").hidden = false;
  follow();
}

// -- live figures --

function follow() {
  events?.close();
  events = new EventSource("/v1/events");
  events.addEventListener("history", ({ data }) => {
    const history = JSON.parse(data);
    samples = history.samples;
    show(history);
  });
  events.addEventListener("sample", ({ data }) => {
    const update = JSON.parse(data);
    samples.push(update.sample);
    samples = samples.filter(({ at }) => at >= update.sample.at - KEPT_SECONDS);
    show(update);
  });
  events.addEventListener("error", () => {
    events?.close();
    showState("down", "No connection to the relay; trying again");
    setTimeout(resume, RETRY_MS);
  });
}

async function resume() {
  if (events === null) return; // logged out meanwhile
  try {
    const { logged_in: loggedIn } = await ask("GET", "/v1/login");
    if (loggedIn) follow();
    else showLogin();
  } catch {
    setTimeout(resume, RETRY_MS);
  }
}

function showState(kind, words) {
  byId("state-dot").className = `dot ${kind}`;
  setText(byId("state"), words);
}

function show({ node, failures }) {
  const last = samples.at(-1);
  if (node.ready) showState("ready", "Taking clients");
  else if (node.draining) showState("draining", "Draining: no new sessions");
  else showState("down", "Not taking new clients");
  setText(byId("plane"), node.plane);
  setText(byId("version"), node.version);
  setText(byId("ports"), `${count(node.ports_in_use)} of ${count(node.ports)}`);
  showFailures(failures, last?.at ?? Date.now() / 1000);
  if (last === undefined) return;
  setText(byId("uptime"), duration(last.at - node.started_at));
  setText(byId("sessions-now"), count(sum(last.sessions)));
  setText(byId("traffic-now"), bitRate(last.bytes_to_peer + last.bytes_from_peer));
  setText(byId("traffic-packets"), `${count(Math.round(last.packets_to_peer + last.packets_from_peer))} packets/s`);
  const share = success(last);
  setText(byId("success-now"), share === null ? "–" : percent(share));
  setText(byId("success-count"), share === null ? "no reports yet" : `of ${count(sum(last.traversals))} reported`);
  for (const chart of charts) chart.show(samples);
  if (document.visibilityState === "visible") listSessions();
}

// -- sessions --

async function listSessions() {
  if (listing) return; // the relay is slower than the figures come
  listing = true;
  try {
    const sessions = [];
    let page = { next: null };
    do {
      const after = page.next === null ? "" : `&after=${encodeURIComponent(page.next)}`;
      page = await ask("GET", `/v1/sessions?limit=${PAGE}${after}`);
      sessions.push(...page.sessions);
    } while (page.next !== null && sessions.length < shown);
    showSessions(sessions, page);
  } catch (error) {
    if (error.status === 401) showLogin();
  } finally {
    listing = false;
  }
}

const NAMES = { udp: "UDP", tcp: "TCP", tls: "TLS", websocket: "WebSocket" };
const LABELS = [null, "over", "age", "to peers", "from peers", "peers", null];

function makeRow({ id }) {
  const end = make("button", { type: "button", class: "quiet small", "aria-label": `End session ${id}` }, "End");
  end.addEventListener("click", () => confirmEnd(id));
  const cells = LABELS.map((label, index) =>
    make("td", { role: "cell", ...(label && { "data-label": label }), ...(index > 1 && index < 6 && { class: "number" }) }),
  );
  cells.at(-1).append(end);
  return make("tr", { role: "row", "data-id": id }, ...cells);
}

function fillRow(row, session) {
  const [name, over, age, toPeers, fromPeers, peers] = row.cells;
  if (!name.firstChild) name.append(make("span", { class: "mono" }, session.id), make("span", { class: "who" }));
  setText(name.lastChild, session.account === undefined ? "" : `${session.account} from ${session.client}`);
  setText(over, `${NAMES[session.transport]}, ${session.families.join(" and ").replaceAll("ipv", "IPv")}`);
  setText(age, duration(session.age_seconds));
  setText(toPeers, bytes(session.traffic.bytes_to_peer));
  setText(fromPeers, bytes(session.traffic.bytes_from_peer));
  setText(peers, count(session.permissions));
}

// Rows are kept by session, so that focus and a screen reader's place survive the next figures.
function showSessions(sessions, { total, next }) {
  const body = byId("live").tBodies[0];
  const rows = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  const wanted = new Set(sessions.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (wanted.has(id)) continue;
    if (row.contains(document.activeElement)) byId("live-scroll").focus();
    row.remove();
  }
  for (const session of sessions) {
    let row = rows.get(session.id);
    if (row === undefined) {
      row = makeRow(session);
      body.append(row);
    }
    fillRow(row, session);
  }
  byId("live").hidden = !sessions.length;
  byId("live-empty").hidden = sessions.length > 0;
  setText(byId("live-count"), sessions.length < total ? `${count(sessions.length)} of ${count(total)}` : count(total));
  byId("more").hidden = next === null;
}

byId("more").addEventListener("click", () => {
  shown += PAGE;
  listSessions();
});

function confirmEnd(id) {
  const dialog = byId("confirm");
  setText(byId("confirm-id"), id);
  dialog.returnValue = "";
  dialog.showModal();
}

byId("confirm").addEventListener("close", async ({ target }) => {
  if (target.returnValue !== "end") return;
  const id = byId("confirm-id").textContent;
  try {
    await ask("DELETE", `/v1/sessions/${id}`);
    setText(byId("news"), `Session ${id} has ended.`);
  } catch (error) {
    setText(byId("news"), error.message);
  }
  listSessions();
});

// -- failures --

function showFailures(failures, now) {
  const list = byId("failures");
  const lines = failures.map((failure) => {
    const { title, advice } = explain(failure);
    const ago = now - failure.last_at;
    return [count(failure.count), title, ago < 10 ? "just now" : `${duration(ago)} ago`, advice];
  });
  while (list.children.length > lines.length) list.lastChild.remove();
  lines.forEach((line, index) => {
    if (!list.children[index]) {
      const parts = ["count", "title", "when", "advice"].map((name) => make("span", { class: name }));
      list.append(make("li", {}, ...parts));
    }
    line.forEach((text, part) => setText(list.children[index].children[part], text));
  });
  byId("failures-empty").hidden = failures.length > 0;
}

// -- the start --

try {
  const { logged_in: loggedIn } = await ask("GET", "/v1/login");
  if (loggedIn) showBoard();
  else showLogin();
} catch (error) {
  showLogin();
  setText(byId("login-error"), error.message);
}

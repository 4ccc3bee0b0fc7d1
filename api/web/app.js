// Head of the page, routes and the live connection.

import { badge, h } from "./dom.js";
import { time, value } from "./format.js";
import { Refused, get, listen, saveToken } from "./net.js";
import { overview, refreshDurations } from "./overview.js";
import { incidentView } from "./report.js";

const main = document.getElementById("main");
const state = { status: null, version: null, onTick: null, lostNs: 0, shown: "", drawing: false };

function showHead(status) {
  document.getElementById("host").textContent = status.host;
  const items = [
    status.tier === "T1" ? badge("T1 eBPF", "good", "eBPF programs are attached") : badge(`${status.tier} no eBPF`, "warning", status.tier_reason),
    status.ready ? badge("ready", "good", "Frames arrive") : badge("blind", "critical", status.reasons.join("; ")),
    status.warming ? badge(`learning ${Math.round((status.warm_ratio ?? 0) * 100)} %`, "warning", "Detectors have not seen enough yet") : null,
    status.alerts_firing ? badge(`${status.alerts_firing} firing`, "critical") : null,
    badge(`${value(status.cpu_percent, "")} % CPU · ${value(status.pss_mb, "")} MB`, "", "What etio itself costs: of one core, and memory"),
  ];
  document.getElementById("badges").replaceChildren(...items.filter(Boolean).map((item) => h("li", {}, item)));
  document.title = `${status.alerts_firing ? `(${status.alerts_firing}) ` : ""}etio · ${status.host}`;
  showBanner(status);
}

function showBanner(status) {
  const parts = [];
  if (state.lostNs) {
    parts.push(h("p", { class: "banner critical" }, `No connection to etio since ${time(state.lostNs)}. What you see is from then.`));
  }
  if (!status.ready) {
    parts.push(h("p", { class: "banner critical" }, h("b", {}, "etio is blind: "), status.reasons.join("; ") || "no reason given"));
  }
  if (status.tier !== "T1" && status.tier_reason) {
    parts.push(h("p", { class: "banner" }, h("b", {}, "No eBPF: "), status.tier_reason));
  }
  for (const one of status.failed) {
    const remedy = one.remedy ? `; ${one.remedy}` : "";
    parts.push(h("p", { class: "banner" }, h("b", {}, `${one.name} ${one.state === "shed" ? "is switched off" : "failed"}: `), `${one.reason}${remedy}`));
  }
  const box = document.getElementById("banner");
  const text = parts.map((p) => p.textContent).join("\n");
  if (box.textContent !== text.replaceAll("\n", "")) box.replaceChildren(...parts);
}

function problemView(error) {
  if (error instanceof Refused && error.status === 401) return tokenForm();
  return h("div", { class: "empty bad" }, h("h1", {}, error instanceof Refused ? error.message : "The page could not be filled"),
    h("p", {}, error.remedy || String(error.message ?? error)), h("p", {}, h("a", { href: "#/" }, "All incidents")));
}

function tokenForm() {
  const field = h("input", { type: "password", id: "token", autocomplete: "current-password" });
  return h("form", { class: "empty", onsubmit: (event) => {
    event.preventDefault();
    saveToken(field.value.trim());
    location.reload();
  } }, h("h1", {}, "A token is needed"), h("p", {}, h("label", { for: "token" }, "The token of api.token_file: "), field, " ",
    h("button", { type: "submit" }, "Continue")));
}

// Draws the view of the address into a fresh element, so that a failure or a later click leaves no half page.
async function route({ keep = false } = {}) {
  if (state.drawing && keep) return;
  state.drawing = true;
  const address = location.hash;
  const fresh = h("div", {});
  let onTick = null;
  try {
    state.status ??= (await get("/api/v1/now?seconds=10")).status;
    showHead(state.status);
    const incident = /^#\/incident\/(.+)$/.exec(address);
    if (incident) onTick = await incidentView(fresh, decodeURIComponent(incident[1]), state.status);
    else onTick = await overview(fresh, state.status);
  } catch (error) {
    fresh.replaceChildren(problemView(error));
  }
  state.drawing = false;
  if (location.hash !== address) return;
  const { scrollY } = window;
  main.replaceChildren(fresh);
  state.onTick = onTick;
  window.scrollTo(0, keep ? scrollY : 0);
  if (!keep && state.shown) main.focus({ preventScroll: true });
  state.shown = address;
}

function tick(body) {
  state.status = body.status;
  showHead(body.status);
  state.onTick?.(body);
  refreshDurations(body.status.now_ns);
  if (state.version !== null && body.version !== state.version) route({ keep: true });
  state.version = body.version;
}

function connection(up) {
  state.lostNs = up ? 0 : state.lostNs || Date.now() * 1e6;
  if (!up) state.version = -1;
  if (state.status) showBanner(state.status);
}

// References such as E1 lead to a row of the table; the address stays that of the incident.
document.addEventListener("click", (event) => {
  const id = event.target.closest?.("a.ref")?.dataset.row;
  const row = id && document.getElementById(id);
  if (!row) return;
  event.preventDefault();
  row.scrollIntoView({ block: "center" });
  row.focus();
});
window.addEventListener("hashchange", () => { if (location.hash !== "#main") route(); });
route().then(() => listen(tick, connection));

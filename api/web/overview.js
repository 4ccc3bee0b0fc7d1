// The list of incidents and the panel "Host now".

import { sparkline } from "./charts.js";
import { badge, h, svg } from "./dom.js";
import { NS, duration, iso, time, title, value } from "./format.js";
import { get } from "./net.js";

const KEEP_NS = 300 * NS;
const STALE_NS = 10 * NS;
const SEVERITY = { critical: "critical", warning: "warning", info: "info" };

export const severityBadge = (severity) => badge(severity, SEVERITY[severity] ?? "");
export const verdictBadge = (verdict) => badge(verdict, `verdict ${verdict.toLowerCase()}`, VERDICTS[verdict]);

const VERDICTS = {
  CONFIRMED: "The evidence carries this cause, and nothing speaks against it.",
  LIKELY: "The evidence fits this cause best; something is missing for certainty.",
  INCONCLUSIVE: "The evidence does not carry any single cause.",
};

const REPORT_STATES = {
  none: "no report yet",
  running: "being explained…",
  failed: "could not be explained",
  ready: "",
};

// Durations of what still goes on, kept up to date.
export function refreshDurations(nowNs) {
  for (const node of document.querySelectorAll("[data-since]")) node.textContent = duration(nowNs - Number(node.dataset.since));
}

export function headline(incident) {
  if (incident.report) return incident.report.title;
  const names = [...new Set(incident.alerts.map((a) => a.name))].join(", ");
  return incident.alerts.length === 1 ? incident.alerts[0].summary || names : names;
}

export function when(incident, nowNs) {
  const since = h("time", { datetime: iso(incident.onset_ns), title: iso(incident.onset_ns) }, time(incident.onset_ns));
  const end = incident.resolved_ns;
  if (end) return ["resolved, from ", since, ` for ${duration(end - incident.onset_ns)}`];
  return ["firing since ", since, " (", h("span", { "data-since": incident.onset_ns }, duration(nowNs - incident.onset_ns)), ")"];
}

function card(incident, nowNs) {
  const { report } = incident;
  const about = [
    h("span", {}, when(incident, nowNs)),
    report?.culprit ? h("span", { class: "culprit" }, "by ", h("b", {}, report.culprit.name)) : null,
    REPORT_STATES[incident.report_state] ? h("span", {}, REPORT_STATES[incident.report_state]) : null,
    h("span", { class: "quiet" }, incident.id),
  ];
  return h("li", { class: `incident ${incident.resolved_ns ? "resolved" : incident.severity}` },
    h("a", { href: `#/incident/${encodeURIComponent(incident.id)}` },
      h("span", { class: "line" }, severityBadge(incident.severity), report ? verdictBadge(report.verdict) : null),
      h("span", { class: "title" }, headline(incident)),
      h("span", { class: "about" }, about)));
}

function emptyState(status) {
  if (!status.ready) {
    return h("div", { class: "empty bad" }, h("h3", {}, "etio is blind"),
      h("p", {}, "No incident is listed, and that says nothing: the host is not being seen now."));
  }
  if (status.warming) {
    return h("div", { class: "empty" }, h("h3", {}, "Still learning what is usual here"),
      h("p", {}, `${Math.round((status.warm_ratio ?? 0) * 100)} % of the series have a baseline. Hard rules (OOM kill, disk full, `
        + "link down) fire already; deviations are judged once the baselines are there."));
  }
  return h("div", { class: "empty good" }, h("h3", {}, "Nothing is wrong"),
    h("p", {}, `${status.series.toLocaleString("en")} series are watched. Incidents appear here by themselves.`));
}

export async function overview(main, status) {
  const { incidents } = await get("/api/v1/incidents?limit=50");
  const open = incidents.filter((i) => !i.resolved_ns);
  const past = incidents.filter((i) => i.resolved_ns);
  const list = (found) => h("ul", { class: "incidents" }, found.map((i) => card(i, status.now_ns)));
  main.append(
    h("section", { "aria-labelledby": "open" }, h("h1", { id: "open" }, "Incidents"),
      open.length ? list(open) : emptyState(status)),
    h("section", { "aria-labelledby": "now" }, h("h2", { id: "now" }, "Host now ",
      h("small", { id: "age" })), h("div", { class: "cards", id: "cards" })),
    past.length ? h("section", { "aria-labelledby": "past" }, h("h2", { id: "past" }, "Resolved"), list(past)) : "",
  );
  return livePanel(main.querySelector("#cards"), main.querySelector("#age"));
}

// Fills the panel and returns the function that takes each tick in.
async function livePanel(box, age) {
  const body = await get("/api/v1/now?seconds=300");
  const showAge = (lastNs, nowNs) => {
    const stale = !lastNs || nowNs - lastNs > STALE_NS;
    box.classList.toggle("stale", stale);
    age.textContent = stale && lastNs ? `old: last seen ${time(lastNs)}` : "last 5 minutes; shaded: the expected range";
  };
  showAge(body.t_ns.at(-1), body.status.now_ns);
  const cells = new Map();
  for (const one of body.series) {
    const cell = { times: [...body.t_ns], values: [...one.values], band: body.bands[one.key] ?? null, unit: one.unit, ...cellNodes(one) };
    cells.set(one.key, cell);
    box.append(cell.node);
    paint(cell);
  }
  if (!cells.size) box.append(h("p", { class: "quiet" }, "No values yet."));
  return (tick) => {
    showAge(tick.t_ns, tick.status.now_ns);
    for (const [key, cell] of cells) {
      if (tick.t_ns <= (cell.times.at(-1) ?? 0)) continue;
      const [now, low, high] = tick.values[key] ?? [null, null, null];
      cell.times.push(tick.t_ns);
      cell.values.push(now);
      while (cell.times[0] < tick.t_ns - KEEP_NS) {
        cell.times.shift();
        cell.values.shift();
      }
      cell.band = [low, high];
      paint(cell);
    }
  };
}

function cellNodes(one) {
  const entity = Object.entries(one.labels).filter(([k]) => k !== "uuid" && k !== "type").map(([, v]) => v).join(" ");
  const figure = h("b", {});
  const drawing = svg("svg", { class: "spark", preserveAspectRatio: "none", "aria-hidden": "true" });
  const node = h("div", { class: "cell", title: one.key },
    h("span", { class: "name" }, title(one.name), entity ? h("i", {}, ` ${entity}`) : ""), figure, drawing);
  return { node, figure, drawing };
}

function paint(cell) {
  const now = cell.values.at(-1) ?? null;
  cell.figure.textContent = value(now, cell.unit);
  const [low, high] = cell.band ?? [null, null];
  cell.node.classList.toggle("outside", now !== null && low !== null && (now < low || now > high));
  sparkline(cell.drawing, cell.times, cell.values, cell.band);
}

// One incident: its report with the curves of its evidence.

import { drawCurves } from "./charts.js";
import { badge, code, h, references, withReferences } from "./dom.js";
import { NS, duration, iso, seriesTitle, time, value } from "./format.js";
import { Refused, download, get } from "./net.js";
import { headline, severityBadge, verdictBadge, when } from "./overview.js";

const section = (id, name, ...children) => h("section", { "aria-labelledby": id }, h("h2", { id }, name), ...children);

const REDRAW_NS = 15 * NS;

// Fills `main` and returns the function that takes each tick in, or null.
export async function incidentView(main, id, status) {
  const path = encodeURIComponent(id);
  const incident = await get(`/api/v1/incidents/${path}`);
  const report = incident.report ? await get(`/api/v1/reports/${path}`) : null;
  main.append(h("p", { class: "crumb" }, h("a", { href: "#/" }, "← All incidents")), head(incident, report, status));
  if (!report) {
    main.append(...withoutReport(incident));
    return null;
  }
  const curves = h("div", { class: "curves" });
  main.append(
    summary(report),
    section("evidence", "Evidence", curves, evidenceTable(report)),
    suggestions(report),
    explanations(report),
    timeline(report),
    quality(report),
    footer(report),
  );
  await fillCurves(curves, report, incident, status);
  let drawnNs = status.now_ns;
  return (tick) => {
    if (incident.resolved_ns || tick.status.now_ns - drawnNs < REDRAW_NS) return;
    drawnNs = tick.status.now_ns;
    fillCurves(curves, report, incident, tick.status).catch(() => {}); // the next round tries again
  };
}

function head(incident, report, status) {
  return h("div", { class: "head" },
    h("div", { class: "line" }, severityBadge(incident.severity), report ? verdictBadge(report.verdict) : null,
      badge(incident.resolved_ns ? "resolved" : "firing", incident.resolved_ns ? "good" : "critical soft")),
    h("h1", { tabindex: -1 }, headline(incident)),
    h("p", { class: "about" }, h("span", {}, when(incident, status.now_ns)), h("span", {}, `host ${report?.host ?? status.host}`),
      h("span", { class: "quiet" }, `incident ${incident.id}`),
      h("span", { class: "quiet" }, [...new Set(incident.alerts.map((a) => `${a.name} (${a.model})`))].join(", "))));
}

function withoutReport(incident) {
  const text = {
    failed: "The explanation did not finish. The alerts below are what is known.",
    running: "The explanation is being made; this page shows it when it is ready.",
  }[incident.report_state] ?? "There is no report of this incident yet.";
  const rows = incident.alerts.map((a) => h("tr", {}, h("th", { scope: "row" }, a.name), h("td", {}, a.model), h("td", {}, a.entity),
    h("td", { class: "number" }, value(a.value, a.unit)), h("td", { class: "number" }, a.state),
    h("td", { class: "number" }, time(a.pending_ns)), h("td", {}, a.summary)));
  return [h("p", { class: "notice" }, text),
    section("alerts", "Alerts", table("Alerts of this incident", ["alert", "model", "of what", "value", "state", "since", "summary"], rows))];
}

function table(caption, columns, rows) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col" }, c)))), h("tbody", {}, rows)));
}

function summary(report) {
  const known = new Set(report.evidence.map((e) => e.id));
  const { culprit } = report;
  return h("div", { class: "summary" },
    h("p", { class: "lead" }, withReferences(report.summary, known)),
    report.narrative ? h("p", { class: "narrative" }, withReferences(report.narrative, known), report.model.mode === "llm"
      ? h("small", {}, ` Worded by ${report.model.name || "a model"}, checked against the evidence.`) : null) : null,
    culprit ? h("aside", { class: "who", "aria-label": "Who did it" }, h("h2", {}, "Who did it"),
      h("p", {}, h("b", {}, culprit.name), ` ${culprit.kind}`, culprit.pid ? `, pid ${culprit.pid}` : "",
        culprit.cgroup && culprit.cgroup !== culprit.name ? [", in ", h("code", {}, culprit.cgroup)] : ""),
      culprit.claim ? h("p", {}, culprit.claim, " ", references(culprit.evidence)) : null) : h("p", { class: "quiet" }, "Who did it: not established."));
}

function evidenceTable(report) {
  const rows = report.evidence.map((e) => h("tr", { id: e.id, class: e.kind === "missing" ? "missing" : null, tabindex: -1 },
    h("th", { scope: "row" }, e.id),
    h("td", { class: "claim" }, e.claim, e.entity !== "host" ? h("small", {}, e.entity) : null),
    h("td", { class: "number" }, value(e.baseline, e.unit)),
    h("td", { class: "number strong" }, value(e.value, e.unit)),
    h("td", { class: "number" }, time(e.onset_ns)),
    h("td", { class: "number" }, e.score === null ? "–" : `${Number(e.score).toFixed(1)}×`),
    h("td", {}, e.source, e.kind !== "missing" && e.coverage < 0.995 ? h("small", {}, `${Math.floor(e.coverage * 100)} % of the samples`) : null)));
  return table("Evidence of this report", ["", "what was seen", "calm", "now", "since", "alarm", "how it was measured"], rows);
}

function suggestions(report) {
  if (!report.suggestions.length && !report.next_steps.length) return "";
  const steps = report.next_steps.length
    ? [h("h3", {}, "To find out more"), h("ul", {}, report.next_steps.map((s) => h("li", {}, s)))] : "";
  return section("todo", "What to do", h("p", { class: "quiet" }, "etio changes nothing by itself."),
    h("ol", { class: "suggestions" }, report.suggestions.map(suggestion)), steps);
}

function suggestion(s) {
  const change = h("p", { class: "change" }, h("span", {}, s.knob), " ",
    h("code", {}, s.current || "unknown"), h("span", { "aria-label": "to" }, " → "), h("code", { class: "to" }, s.proposed),
    s.read_ns ? h("small", {}, ` read ${time(s.read_ns)}`) : null, s.current_note ? h("small", {}, ` ${s.current_note}`) : null);
  const commands = [["Apply", s.apply], ["Roll back", s.rollback], ["Verify", s.verify]].filter(([, text]) => text);
  return h("li", {}, h("h3", {}, s.title, " ", badge(`risk ${s.risk}`, { none: "good", low: "good", medium: "warning", high: "critical" }[s.risk])),
    change, h("p", {}, s.why),
    h("dl", { class: "pairs" }, h("dt", {}, "Expect"), h("dd", {}, s.effect),
      s.risk_note ? [h("dt", {}, "Risk"), h("dd", {}, s.risk_note)] : ""),
    commands.map(([name, text]) => h("div", { class: "command" }, h("span", {}, name), code(text, `${name}: ${s.title}`))),
    s.source ? h("p", { class: "quiet" }, `Source: ${s.source}`) : "");
}

function explanations(report) {
  const others = report.findings.slice(1);
  const ruled = report.ruled_out.map((r) => h("li", {}, h("b", {}, r.title), `: ${r.reason} `, references(r.evidence)));
  const findings = others.map((f) => h("li", {}, verdictBadge(f.verdict), " ", h("b", {}, f.title), ` ${f.explanation} `,
    references(f.supports), f.refutes.length ? [" against it: ", references(f.refutes)] : ""));
  const parts = [];
  if (findings.length) parts.push(section("other", "Also considered", h("ul", {}, findings)));
  if (ruled.length) parts.push(section("ruled", "Ruled out", h("ul", {}, ruled)));
  if (report.follows.length) {
    parts.push(section("follows", "Follows from it, not a cause", h("ul", {}, report.follows.map((f) => h("li", {}, f)))));
  }
  return h("div", { class: "columns" }, parts);
}

function timeline(report) {
  const moments = [...report.changes.map((m) => ({ ...m, change: true })), ...report.timeline];
  const seen = new Set();
  const rows = moments.filter((m) => !seen.has(m.t_ns + m.text) && seen.add(m.t_ns + m.text)).sort((a, b) => a.t_ns - b.t_ns);
  if (!rows.length) return "";
  return section("timeline", "Timeline", h("ol", { class: "timeline" }, rows.map((m) => h("li", { class: m.change ? "change" : null },
    h("time", { datetime: iso(m.t_ns), title: iso(m.t_ns) }, time(m.t_ns)),
    h("span", {}, m.text, " ", references(m.evidence), m.change ? h("small", {}, " changed before") : null)))));
}

function quality(report) {
  const q = report.data_quality;
  const { model, overhead } = report;
  const pair = (name, ...text) => [h("dt", {}, name), h("dd", {}, ...text)];
  const took = model.mode === "llm"
    ? `${model.name} at ${model.endpoint} worded the narrative: ${model.seconds.toFixed(0)} s, ${model.prompt_tokens} + ${model.answer_tokens} tokens.`
    : `None took part${model.fallback_reason ? `: ${model.fallback_reason}` : ""}.`;
  return h("details", { class: "quality" }, h("summary", {}, "Data quality, model, cost"), h("dl", { class: "pairs" },
    pair("Tier", q.tier === "T1" ? "T1, with eBPF" : `${q.tier}, without eBPF`),
    pair("Coverage", `${Math.floor(q.coverage * 100)} % of the expected samples`, q.warming ? "; detectors were still learning" : ""),
    q.missing.length ? pair("Not seen", h("ul", {}, q.missing.map((m) => h("li", {}, m)))) : "",
    q.dropped_series ? pair("Left out", `${q.dropped_series} series over the catalogue limit`) : "",
    pair("Model", took, model.removed.length
      ? h("ul", {}, model.removed.map((r) => h("li", {}, `removed by the check: ${r}`))) : ""),
    pair("etio itself", `${value(overhead.cpu_percent, "")} % of one core, ${value(overhead.pss_mb, "")} MB`),
    pair("Report", `${report.id}, made ${time(report.created_ns)}`)));
}

function footer(report) {
  const base = `/api/v1/reports/${encodeURIComponent(report.id)}?format=`;
  const link = (name, format, type) => h("a", { href: base + format, onclick: async (event) => {
    if (!sessionStorage.length) return; // no token in use: the plain link serves
    event.preventDefault();
    open(await download(base + format, type), "_blank", "noopener");
  } }, name);
  return h("p", { class: "quiet forms" }, "This report as ", link("JSON", "json", "application/json"), " · ",
    link("Markdown", "markdown", "text/plain"), " · ", link("plain page", "html", "text/plain"));
}

// From well before the onset to the end (or now), the same for all curves.
function spanOf(report, incident, status) {
  const end = incident.resolved_ns ? incident.resolved_ns + 60 * NS : status.now_ns;
  const before = Math.max(300 * NS, Math.min(3600 * NS, end - report.since_ns));
  return { start: report.since_ns - before, end: Math.max(end, report.since_ns + 60 * NS), since: report.since_ns };
}

async function fillCurves(box, report, incident, status) {
  const drawn = report.evidence.filter((e) => e.series_key).slice(0, 8);
  if (!drawn.length) return;
  const span = spanOf(report, incident, status);
  const keys = [...new Set(drawn.map((e) => e.series_key))];
  const query = keys.map((k) => `key=${encodeURIComponent(k)}`).join("&");
  let found = [];
  try {
    found = (await get(`/api/v1/series/data?${query}&start=${Math.round(span.start)}&end=${Math.round(span.end)}&points=400`)).curves;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    box.replaceChildren(h("p", { class: "quiet" }, `No curves: ${error.message}`));
    return;
  }
  const byKey = new Map(found.map((c) => [c.key, c]));
  const items = drawn.filter((e) => byKey.get(e.series_key)?.t_ns.length)
    .map((e) => ({ evidence: e, curve: byKey.get(e.series_key), label: [h("b", {}, e.id), ` ${seriesTitle(e.series_key)}`] }));
  if (!items.length) {
    box.replaceChildren(h("p", { class: "quiet" }, "The samples of this time are no longer kept."));
    return;
  }
  const plot = h("div", { class: "plot" });
  box.replaceChildren(plot, h("p", { class: "legend" }, h("span", { class: "key usual" }, "usual before the onset (5–95 %)"),
    h("span", { class: "key baseline" }, "calm value"), h("span", { class: "key onset" }, `onset ${time(report.since_ns)}`),
    h("span", { class: "quiet" }, `${duration(span.end - span.start)} shown`)));
  drawCurves(plot, items, span);
}

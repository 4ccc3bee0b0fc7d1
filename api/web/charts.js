// Curves as SVG: small multiples on one time axis, and sparklines.

import { svg, h } from "./dom.js";
import { NS, time, value } from "./format.js";

const PAD = { left: 58, right: 10, top: 6, bottom: 6 };
const HEIGHT = 76;
const AXIS = 22;

function niceTop(number) {
  if (!(number > 0)) return 1;
  const step = 10 ** Math.floor(Math.log10(number));
  return [1, 1.5, 2, 3, 4, 6, 8, 10].map((m) => m * step).find((top) => top >= number * 0.999);
}

function runs(points) {
  const found = [];
  let run = [];
  for (const point of points) {
    if (point === null) {
      if (run.length) found.push(run);
      run = [];
    } else run.push(point);
  }
  if (run.length) found.push(run);
  return found;
}

const fixed = (n) => n.toFixed(1);
const line = (run) => `M${run.map(([x, y]) => `${fixed(x)},${fixed(y)}`).join("L")}`;

// A gap in the data is a gap in the line.
function pathOf(times, values, x, y) {
  return runs(times.map((t, i) => (values[i] === null ? null : [x(t), y(values[i])]))).map(line).join("");
}

function areaOf(times, low, high, x, y) {
  const points = times.map((t, i) => (low[i] === null || high[i] === null ? null : [x(t), y(low[i]), y(high[i])]));
  return runs(points).map((run) => {
    const up = run.map(([px, , top]) => [px, top]);
    const down = run.map(([px, bottom]) => [px, bottom]).reverse();
    return `${line([...up, ...down])}Z`;
  }).join("");
}

// 5th to 95th percentile of what the curve did before the onset; null with too few values.
export function usualRange(curve, onsetNs) {
  const calm = curve.mean.filter((v, i) => v !== null && curve.t_ns[i] < onsetNs - 5 * NS).sort((a, b) => a - b);
  if (calm.length < 20) return null;
  return { low: calm[Math.floor(calm.length * 0.05)], high: calm[Math.ceil(calm.length * 0.95) - 1] };
}

function scale(curve, range, baseline) {
  const seen = [...curve.high, ...(curve.season?.high ?? []), range?.high, baseline].filter((v) => Number.isFinite(v));
  const most = Math.max(0, ...seen);
  return curve.unit === "ratio" && most > 0.6 && most <= 1.001 ? 1 : niceTop(most * 1.05);
}

function row(item, frame) {
  const { curve, evidence } = item;
  const onset = evidence.onset_ns || frame.since;
  const range = usualRange(curve, onset);
  const top = scale(curve, range, evidence.baseline);
  const bottom = Math.min(0, ...curve.low.filter((v) => v !== null));
  const y = (v) => PAD.top + (HEIGHT - PAD.top - PAD.bottom) * (1 - (v - bottom) / (top - bottom || 1));
  const { x, width } = frame;
  const right = width - PAD.right;
  const parts = [0, 0.5, 1].map((share) => {
    const at = bottom + share * (top - bottom);
    return [
      svg("line", { class: "grid", x1: PAD.left, x2: right, y1: y(at), y2: y(at) }),
      share === 0.5 ? null : svg("text", { class: "tick", x: PAD.left - 6, y: y(at) + 4, "text-anchor": "end" }, value(at, curve.unit)),
    ];
  });
  if (curve.season) {
    parts.push(svg("path", { class: "usual", d: areaOf(curve.t_ns, curve.season.low, curve.season.high, x, y) }));
  } else if (range) {
    parts.push(svg("rect", { class: "usual", x: PAD.left, width: right - PAD.left, y: y(range.high),
      height: Math.max(1.5, y(range.low) - y(range.high)) }));
  }
  if (Number.isFinite(evidence.baseline)) {
    parts.push(svg("line", { class: "baseline", x1: PAD.left, x2: right, y1: y(evidence.baseline), y2: y(evidence.baseline) }));
  }
  parts.push(svg("path", { class: "envelope", d: areaOf(curve.t_ns, curve.low, curve.high, x, y) }));
  parts.push(svg("path", { class: "curve", d: pathOf(curve.t_ns, curve.mean, x, y) }));
  parts.push(marks(evidence, frame));
  return svg("svg", { width, height: HEIGHT, role: "img", "aria-label": spoken(item, range) }, parts,
    svg("line", { class: "cross", y1: 0, y2: HEIGHT, x1: -9, x2: -9 }));
}

function marks(evidence, { x, since, start, end }) {
  const at = (t, kind) => (t > start && t < end ? svg("line", { class: kind, x1: x(t), x2: x(t), y1: 0, y2: HEIGHT }) : null);
  const own = evidence.onset_ns && Math.abs(evidence.onset_ns - since) > NS ? at(evidence.onset_ns, "onset own") : null;
  return [at(since, "onset"), own];
}

function spoken({ curve, evidence }, range) {
  const usual = range ? `usual range ${value(range.low, curve.unit)} to ${value(range.high, curve.unit)}` : "no usual range known";
  const since = evidence.onset_ns ? `, left it at ${time(evidence.onset_ns)}` : "";
  return `Curve of ${evidence.id}: now ${value(evidence.value, evidence.unit)}, ${usual}${since}`;
}

function axis({ x, start, end, width, since }) {
  const steps = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400].map((s) => s * NS);
  const step = steps.find((s) => (end - start) / s <= Math.max(2, (width - PAD.left) / 110)) ?? steps.at(-1);
  const marksAt = [];
  for (let t = Math.ceil(start / step) * step; t < end; t += step) marksAt.push(t);
  const onset = since > start && since < end
    ? svg("text", { class: "tick onset-label", x: x(since), y: 12, "text-anchor": "middle" }, "onset") : null;
  const free = marksAt.filter((t) => x(t) < width - 28 && (!onset || Math.abs(x(t) - x(since)) > 56));
  return svg("svg", { width, height: AXIS, "aria-hidden": "true" },
    free.map((t) => svg("text", { class: "tick", x: x(t), y: 12, "text-anchor": "middle" }, time(t))), onset);
}

// Draws the curves of a report into `box`, and again when its width changes. items: [{evidence, curve, label}].
export function drawCurves(box, items, span) {
  const draw = () => {
    const width = Math.max(260, Math.floor(box.clientWidth));
    const { start, end } = span;
    const x = (t) => PAD.left + (width - PAD.left - PAD.right) * ((t - start) / (end - start));
    const frame = { ...span, width, x };
    const rows = items.map((item) => {
      const reading = h("output", { class: "reading" }, value(item.evidence.value, item.evidence.unit));
      const drawn = row(item, frame);
      return { item, reading, drawn, figure: h("figure", {}, h("figcaption", {}, h("span", {}, item.label), reading), drawn) };
    });
    box.replaceChildren(...rows.map((r) => r.figure), axis(frame));
    follow(box, rows, frame);
  };
  let last = 0;
  new ResizeObserver(() => {
    if (box.clientWidth !== last) {
      last = box.clientWidth;
      draw();
    }
  }).observe(box);
  last = box.clientWidth;
  draw();
}

// One crosshair over all curves.
function follow(box, rows, { start, end, width }) {
  const show = (px) => {
    const inside = px >= PAD.left && px <= width - PAD.right;
    const t = start + (end - start) * ((px - PAD.left) / (width - PAD.left - PAD.right));
    for (const { item, reading, drawn } of rows) {
      const cross = drawn.lastElementChild;
      cross.setAttribute("x1", inside ? px : -9);
      cross.setAttribute("x2", inside ? px : -9);
      const { curve, evidence } = item;
      const at = inside ? nearest(curve.t_ns, t) : -1;
      reading.textContent = at < 0 ? value(evidence.value, evidence.unit) : `${time(curve.t_ns[at])}  ${value(curve.mean[at], curve.unit)}`;
    }
  };
  box.onpointermove = (event) => show(event.clientX - box.getBoundingClientRect().left);
  box.onpointerleave = () => show(-1);
}

function nearest(times, t) {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low > 0 && Math.abs(times[low - 1] - t) < Math.abs(times[low] - t) ? low - 1 : low;
}

// A small curve; band: [low, high] of the expected range or null.
export function sparkline(node, times, values, band) {
  const [width, height] = [160, 34];
  const seen = values.filter((v) => v !== null);
  node.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (!seen.length) {
    node.replaceChildren();
    return;
  }
  const known = band && band[0] !== null && band[1] !== null;
  const top = Math.max(...seen, known ? band[1] : -Infinity);
  const low = Math.min(...seen, known ? band[0] : Infinity, top > 0 ? top * 0.8 : top);
  const y = (v) => 3 + (height - 6) * (1 - (v - low) / (top - low || 1));
  const [start, end] = [times[0], times.at(-1)];
  const x = (t) => (width * (t - start)) / (end - start || 1);
  node.replaceChildren(
    ...(known ? [svg("rect", { class: "usual", x: 0, width, y: y(band[1]), height: Math.max(1, y(band[0]) - y(band[1])) })] : []),
    svg("path", { class: "curve", d: pathOf(times, values, x, y) }),
  );
}

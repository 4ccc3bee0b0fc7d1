// Numbers and moments for people. A missing value is a dash, never a zero.

export const NS = 1e9;
const NONE = "–";

function short(number) {
  const size = Math.abs(number);
  if (size >= 100) return number.toLocaleString("en", { maximumFractionDigits: 0 });
  return number.toLocaleString("en", { maximumFractionDigits: size >= 10 ? 1 : size >= 1 ? 2 : 3 });
}

function scaled(number, step, signs) {
  let at = 0;
  let size = number;
  while (Math.abs(size) >= step * 0.9995 && at < signs.length - 1) {
    size /= step;
    at += 1;
  }
  return `${short(size)} ${signs[at]}`;
}

function seconds(number) {
  const size = Math.abs(number);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${short(number * 1e6)} µs`;
  return size < 1 ? `${short(number * 1e3)} ms` : `${short(number)} s`;
}

const UNITS = {
  ratio: (v) => `${short(v * 100)} %`,
  seconds,
  "seconds/s": (v) => `${seconds(v)}/s`,
  bytes: (v) => scaled(v, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]),
  "bytes/s": (v) => scaled(v, 1000, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]),
  hertz: (v) => scaled(v, 1000, ["Hz", "kHz", "MHz", "GHz"]),
  "1/s": (v) => `${short(v)}/s`,
  celsius: (v) => `${short(v)} °C`,
  watts: (v) => `${short(v)} W`,
  1: short,
  "": short,
};

export function value(number, unit) {
  if (number === null || number === undefined) return NONE;
  if (typeof number === "string") return number;
  return UNITS[unit] ? UNITS[unit](number) : `${short(number)} ${unit}`;
}

const pad = (n) => String(n).padStart(2, "0");

export function time(ns) {
  if (!ns) return NONE;
  const at = new Date(ns / 1e6);
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  const today = new Date().toDateString() === at.toDateString();
  return today ? clock : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock}`;
}

export const iso = (ns) => (ns ? new Date(ns / 1e6).toISOString() : "");

export function duration(ns) {
  const total = Math.max(0, Math.round(ns / NS));
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min ${total % 60} s`;
  if (total < 86400) return `${Math.floor(total / 3600)} h ${Math.floor((total % 3600) / 60)} min`;
  return `${Math.floor(total / 86400)} d ${Math.floor((total % 86400) / 3600)} h`;
}

const TITLES = {
  cpu_busy_ratio: "CPU busy",
  cpu_runnable_per_core: "Runnable tasks per core",
  sched_run_delay_p99_seconds: "Wait for a core, p99",
  pressure_cpu_some_ratio: "CPU pressure",
  memory_available_ratio: "Memory available",
  pressure_memory_some_ratio: "Memory pressure",
  pressure_io_some_ratio: "I/O pressure",
  disk_busy_ratio: "Disk busy",
  disk_read_latency_seconds: "Disk read latency",
  disk_write_latency_seconds: "Disk write latency",
  filesystem_used_ratio: "File system used",
  network_receive_bytes_per_second: "Network in",
  network_transmit_bytes_per_second: "Network out",
  tcp_retransmit_ratio: "TCP retransmitted",
  gpu_utilization_ratio: "GPU busy",
  gpu_temperature_celsius: "GPU temperature",
  process_forks_per_second: "Forks",
  anomaly_score: "Unlike itself",
};

export function title(name) {
  if (TITLES[name]) return TITLES[name];
  const words = name.replace(/_(ratio|seconds|bytes|per_second|celsius|watts)$/g, "").replaceAll("_", " ");
  const known = words.replace(/\b(cpu|tcp|udp|gpu|io|oom|numa|vm)\b/g, (word) => (word === "io" ? "I/O" : word.toUpperCase()));
  return known.charAt(0).toUpperCase() + known.slice(1);
}

// "name{device="sda"}" as a title and the thing it speaks of.
export function seriesTitle(key) {
  const at = key.indexOf("{");
  if (at < 0) return title(key);
  const labels = key.slice(at + 1, -1).replaceAll('"', "");
  return `${title(key.slice(0, at))}, ${labels}`;
}

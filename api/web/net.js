// Talks to the daemon: JSON requests, and the stream of ticks (by fetch, so that a token can be sent along).

const KEY = "etio-token";

export class Refused extends Error {
  constructor(status, body) {
    super(body.error || `HTTP ${status}`);
    this.status = status;
    this.remedy = body.remedy || "";
  }
}

export const saveToken = (token) => sessionStorage.setItem(KEY, token);

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export async function get(path) {
  const answer = await fetch(path, { headers: { ...headers(), Accept: "application/json" } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

// Opens a report in another form: links cannot carry the token, so it is fetched and shown as a blob.
export async function download(path, type) {
  const answer = await fetch(path, { headers: headers() });
  return URL.createObjectURL(new Blob([await answer.text()], { type }));
}

// Calls onTick(body) for each tick and onState(true|false) when the connection comes and goes; pauses while hidden.
export function listen(onTick, onState) {
  let control = null;
  async function once() {
    control = new AbortController();
    const answer = await fetch("/api/v1/stream", { headers: headers(), signal: control.signal });
    if (!answer.ok) throw new Refused(answer.status, {});
    onState(true);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").find((line) => line.startsWith("data: "));
        if (data) onTick(JSON.parse(data.slice(6)));
      }
    }
  }
  async function forever() {
    while (!document.hidden) {
      try {
        await once();
      } catch {
        // told by onState below; the next round tries again
      }
      if (document.hidden) break;
      onState(false);
      await new Promise((done) => { setTimeout(done, 3000); });
    }
    control = null;
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) control?.abort();
    else if (!control) forever();
  });
  forever();
}

// Builds elements. Every text becomes a text node: names of processes and files are untrusted and never become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attrs, children) {
  for (const [name, value] of Object.entries(attrs ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

export const h = (tag, attrs, ...children) => fill(document.createElement(tag), attrs, children);
export const svg = (tag, attrs, ...children) => fill(document.createElementNS(SVG, tag), attrs, children);

export function badge(text, kind = "", title = "") {
  return h("span", { class: `badge ${kind}`, title: title || null }, text);
}

// A piece of text to copy, with a button.
export function code(text, label) {
  const body = h("code", {}, text);
  const button = h("button", { class: "copy", type: "button", "aria-label": `Copy: ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(body); // no clipboard here (plain http): leave it selected
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return h("div", { class: "code" }, h("pre", { tabindex: 0 }, body), button);
}

// Text with [E1] or [E1, E2] as links to the rows of the evidence table.
export function withReferences(text, known) {
  return text.split(/(\[E\d+(?:,\s*E\d+)*\])/).map((part) => {
    const ids = /^\[E/.test(part) ? part.slice(1, -1).split(/,\s*/) : [];
    return ids.length && ids.every((id) => known.has(id)) ? references(ids) : part;
  });
}

export function references(ids) {
  return ids.map((id) => h("a", { class: "ref", href: `#${id}`, "data-row": id }, id));
}

// Building the page. Whatever comes from a database becomes text nodes: nothing is ever parsed as HTML.

/**
 * An element. `on…` properties are listeners, `style` is an object of CSS properties, other properties are attributes
 * (true: without a value; false, null and undefined: none).
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, setting] of Object.entries(value)) element.style.setProperty(key, setting);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A text cut at spans: the server counts characters, a JavaScript string UTF-16 units. */
export class Characters {
  constructor(text) {
    this.units = /[\ud800-\udfff]/.test(text) ? Array.from(text) : text;
    this.length = this.units.length;
  }

  slice(start, end) {
    const part = this.units.slice(start, end);
    return typeof part === "string" ? part : part.join("");
  }
}

/** The text from `start` to `end` with `<mark>` around the spans (ascending, in characters). */
export function marked(characters, spans, start = 0, end = characters.length) {
  const nodes = [];
  let position = start;
  for (const span of spans) {
    if (span.end <= start || span.start >= end || span.start < position) continue;
    nodes.push(characters.slice(position, span.start), h("mark", null, characters.slice(span.start, span.end)));
    position = span.end;
  }
  nodes.push(characters.slice(position, end));
  return nodes;
}

/** The stretch of a passage, of about `length` characters, that has the most marks: `[start, end]`. */
export function bestStretch(characters, spans, length) {
  if (characters.length <= length * 1.3) return [0, characters.length];
  let best = [0, 0];
  for (const { start } of spans) {
    const count = spans.filter((span) => span.start >= start && span.end <= start + length * 0.8).length;
    if (count > best[0]) best = [count, start];
  }
  let start = Math.max(0, Math.min(best[1] - Math.round(length * 0.2), characters.length - length));
  let end = Math.min(characters.length, start + length);
  const blank = (index) => /\s/.test(characters.units[index]);
  for (let i = 0; i < 30 && start > 0 && !blank(start - 1); i++) start++;
  for (let i = 0; i < 30 && end < characters.length && !blank(end); i++) end--;
  return [start, end];
}

/** Without case and accents, as BERT's uncased vocabulary and BM25 see a word. */
export const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** The spans of the words of a text that pass a test, which is given them plain. */
export function occurrences(characters, matches) {
  const spans = [];
  const units = characters.units;
  for (let start = 0, end; start < units.length; start = end + 1) {
    for (end = start; end < units.length && /[\p{L}\p{N}\p{M}]/u.test(units[end]); ) end++;
    if (end > start && matches(plain(characters.slice(start, end)))) spans.push({ start, end });
  }
  return spans;
}

export function snippet(passage, length = 340) {
  const characters = new Characters(passage.text);
  const [start, end] = bestStretch(characters, passage.marks, length);
  return [
    start > 0 && "… ",
    ...marked(characters, passage.marks, start, end),
    end < characters.length && " …",
  ].filter(Boolean);
}

export const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function bytes(size) {
  const units = ["bytes", "KB", "MB", "GB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${number(size, unit && size < 100 ? 1 : 0)} ${units[unit]}`;
}

export const milliseconds = (value) => (value < 1000 ? `${number(value, value < 10 ? 1 : 0)} ms` : `${number(value / 1000, 1)} s`);

export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** What a document is called: its title, else its id. */
export function title(hit) {
  const { title, name } = hit.metadata;
  for (const candidate of [title, name]) if (typeof candidate === "string" && candidate.trim()) return candidate;
  return hit.id;
}

export const documentLink = (id) => `#/document?id=${encodeURIComponent(id)}`;
export const termLink = (term) => `#/term?term=${encodeURIComponent(term)}`;

/** A bar whose length is a share of the longest one's; stripes mark what the model added. */
export function bar(share, expansion = false) {
  const length = `${Math.max(0.6, Math.min(1, share) * 100)}%`;
  return h("span", { class: expansion ? "bar expansion" : "bar", "aria-hidden": "true" }, h("span", { style: { width: length } }));
}

/** A vector as words with bars; `point(term)` is called when one is pointed at. */
export function termBars(terms, { shown = 24, label, point }) {
  const strongest = Math.max(...terms.map((term) => term.weight), 1e-9);
  const rows = terms.map((term) =>
    h(
      "tr",
      point && { onpointerenter: () => point(term), onfocusin: () => point(term) },
      h("th", { scope: "row" }, termName(term.term, term.expansion)),
      h("td", { class: "wide" }, bar(term.weight / strongest, term.expansion)),
      h("td", { class: "num" }, number(term.weight, 2)),
    ),
  );
  return folded(rows, shown, (visible) =>
    h(
      "table",
      { class: "bars" },
      h("caption", { class: "unseen" }, label),
      h("thead", { class: "unseen" }, h("tr", null, h("th", { scope: "col" }, "term"), h("td", null), h("th", { scope: "col" }, "weight"))),
      h("tbody", null, visible),
    ),
  );
}

/** A term as a link to its page; a plus marks an expansion, in words for those who cannot see it. */
export function termName(term, expansion) {
  return h(
    "a",
    { href: termLink(term), class: expansion ? "term added" : "term" },
    expansion && h("span", { class: "plus", "aria-hidden": "true" }, "+"),
    term,
    expansion && h("span", { class: "unseen" }, " (added by the model)"),
  );
}

/** A table that shows its first rows, and the others on demand. */
export function folded(rows, shown, build) {
  const table = build(rows.slice(0, shown));
  if (rows.length <= shown) return table;
  const button = h(
    "button",
    {
      type: "button",
      class: "quiet",
      onclick: () => {
        table.querySelector("tbody").append(...rows.slice(shown));
        button.remove();
      },
    },
    `${number(rows.length - shown)} more`,
  );
  return h("div", null, table, button);
}

export const legend = () =>
  h(
    "p",
    { class: "legend" },
    h("span", null, h("span", { class: "swatch" }), "in the text"),
    h("span", null, h("span", { class: "swatch expansion" }), "+ added by the model (expansion)"),
  );

export function notice(message, kind = "notice") {
  return h("p", { class: kind, role: kind === "error" ? "alert" : null }, message);
}

/** Values of metadata, readable. */
export function readable(value) {
  if (Array.isArray(value)) return value.map(readable).join(", ");
  if (value !== null && typeof value === "object") return JSON.stringify(value);
  return String(value);
}

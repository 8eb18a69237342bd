// A document's page, and a term's.

import { get, remove } from "./api.js";
import { Characters, bar, documentLink, h, legend, marked, notice, number, occurrences, plural, readable, snippet, termBars, title } from "./dom.js";

export async function documentPage(main, parameters, library) {
  const id = parameters.get("id") ?? "";
  const found = await get("document", { id });
  const text = h("div", { class: "text" }, found.text);
  const characters = new Characters(found.text);
  const like = h("section", null, h("h2", null, "More like this"), h("p", { class: "hint" }, "Searching …"));
  const name = title(found);
  const metadata = Object.entries(found.metadata);
  const status = h("p", { role: "status" });
  main.replaceChildren(
    h("p", { class: "crumb" }, h("a", { href: "#/search" }, "Search"), " / document"),
    h("h1", null, name),
    name !== found.id && h("p", { class: "meta" }, h("span", { class: "id" }, found.id)),
    status,
    h(
      "div",
      { class: "columns document-columns" },
      h("article", null, found.passages.length > 1 && passageButtons(), text),
      h(
        "aside",
        { "aria-label": "About this document" },
        metadata.length > 0 && h("section", null, h("h2", null, "Metadata"), h("dl", { class: "fields" }, metadata.map(([key, value]) => [h("dt", null, key), h("dd", null, readable(value))]))),
        h(
          "section",
          null,
          h("h2", null, "Strongest terms"),
          found.terms.length ? termBars(found.terms, { shown: 16, label: "Strongest terms", point }) : h("p", { class: "hint" }, "This file keeps no vectors (a slim export)."),
          found.terms.length > 0 && legend(),
        ),
        like,
        library.writable && h("section", null, h("button", { type: "button", class: "danger", onclick: drop }, "Delete this document")),
      ),
    ),
  );

  /** Mark a term of the document where it is a word of the text, or the end of one (##). */
  function point({ term, expansion }) {
    const piece = term.startsWith("##") ? term.slice(2) : null;
    const spans = expansion ? [] : occurrences(characters, (word) => (piece ? word.endsWith(piece) && word !== piece : word === term));
    text.replaceChildren(...marked(characters, spans));
  }

  function passageButtons() {
    const buttons = found.passages.map((span, index) =>
      h("button", { type: "button", "aria-pressed": "false", onclick: (event) => show(span, event.currentTarget) }, `${index + 1}`),
    );
    function show(span, button) {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      const part = h("mark", { class: "whole" }, characters.slice(span.start, span.end));
      text.replaceChildren(characters.slice(0, span.start), part, characters.slice(span.end));
      part.scrollIntoView({ block: "nearest" });
    }
    return h("div", { class: "passages", role: "group", "aria-label": "Passages" }, h("span", { class: "hint" }, "Passages"), buttons);
  }

  async function drop() {
    if (!confirm(`Delete “${name}” from ${library.name}?`)) return;
    try {
      await remove("document", { id });
      library.figures.documents -= 1;
      location.hash = "#/search";
    } catch (error) {
      status.replaceChildren(notice(error.message, "error"));
    }
  }

  get("similar", { id }).then(
    ({ hits }) => like.replaceChildren(h("h2", null, "More like this"), hits.length ? weighted(hits) : h("p", { class: "hint" }, "Nothing.")),
    (error) => like.replaceChildren(h("h2", null, "More like this"), notice(error.message, "error")),
  );
}

export async function termPage(main, parameters) {
  const term = parameters.get("term") ?? "";
  const found = await get("term", { term, k: 25 });
  main.replaceChildren(
    h("p", { class: "crumb" }, h("a", { href: "#/collection" }, "Collection"), " / term"),
    h("h1", { class: "term-title" }, term),
    h("p", { class: "lead" }, found.hits.length ? `In ${plural(found.passages, "passage")}. It weighs most in these documents, whether they contain it or the model added it:` : "No document has this term."),
    weighted(found.hits, true),
  );
}

function weighted(hits, withText = false) {
  const best = hits[0]?.score ?? 1;
  return h(
    "ol",
    { class: withText ? "weighted with-text" : "weighted" },
    hits.map((hit) =>
      h(
        "li",
        null,
        h("div", { class: "head" }, h("div", null, h("a", { href: documentLink(hit.id) }, title(hit)), title(hit) !== hit.id && h("span", { class: "id" }, hit.id)), h("span", { class: "score" }, bar(hit.score / best), number(hit.score, 2))),
        withText && h("p", { class: "passage" }, snippet(hit.passage, 220)),
      ),
    ),
  );
}

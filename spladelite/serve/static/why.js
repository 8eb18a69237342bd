// Why a hit is one: bars of what each term adds, where it stands in the text, and its other documents.

import { Latest, get, pause } from "./api.js";
import { Characters, bar, documentLink, folded, h, legend, marked, notice, number, occurrences, plain, plural, snippet, termLink, title } from "./dom.js";

const SHOWN = 10;
const PART_NAMES = { splade: "SPLADE terms", bm25: "words (BM25)", dense: "dense vectors" };

/** Fill `panel` with the explanation of a hit; `text` is the element with its passage, where hovered terms are marked. */
export async function why(panel, text, hit, found) {
  panel.replaceChildren(h("p", { class: "hint" }, "Adding up …"));
  let explained;
  try {
    explained = await get("explain", { q: found.query, id: hit.id, mode: found.mode });
  } catch (error) {
    panel.replaceChildren(notice(error.message, "error"));
    return;
  }
  const characters = new Characters(explained.passage.text);
  const whole = () => text.replaceChildren(...marked(characters, explained.passage.marks));
  const detail = h("div", { class: "detail", "aria-live": "polite" });
  const latest = new Latest();
  let chosen = null;

  function point(match, row) {
    if (chosen === row) return;
    chosen?.classList.remove("chosen");
    chosen = row;
    row.classList.add("chosen");
    text.replaceChildren(...marked(characters, match.spans));
    showTerm(match);
  }

  async function showTerm(match) {
    const added = match.query_expansion ? "; the model added it to the question" : "";
    const where = match.spans.length
      ? `${match.spans.length === 1 ? "Once" : `${match.spans.length} times`} in this passage, marked above${added}.`
      : `Not in this passage${match.query_expansion ? ", nor in the question: the model added it to both" : ": the model added it"}.`;
    const others = h("ul", { class: "others" });
    detail.replaceChildren(
      h("h4", null, h("a", { href: termLink(match.term), class: match.document_expansion ? "term added" : "term" }, match.term)),
      h("p", null, where),
      others,
    );
    try {
      const answer = await latest.run(async (signal) => {
        await pause(120, signal);
        return get("term", { term: match.term, k: 5 }, signal);
      });
      if (!answer) return;
      const rest = answer.hits.filter((other) => other.id !== hit.id).slice(0, 4);
      others.before(h("p", { class: "hint" }, `In ${plural(answer.passages, "passage")}${rest.length ? "; strongest also in" : ""}`));
      others.replaceChildren(...rest.map((other) => h("li", null, h("a", { href: documentLink(other.id) }, title(other)), " ", h("span", { class: "num" }, number(other.score, 2)))));
    } catch (error) {
      others.before(notice(error.message, "error"));
    }
  }

  const strongest = explained.terms[0]?.contribution ?? 1;
  const rows = explained.terms.map((match) => {
    const added = match.query_expansion || match.document_expansion;
    const sides = [match.query_expansion && "query", match.document_expansion && "document"].filter(Boolean).join(" and ");
    const row = h(
      "tr",
      { onpointerenter: () => point(match, row), onfocusin: () => point(match, row) },
      h(
        "th",
        { scope: "row" },
        h(
          "button",
          { type: "button", class: added ? "term added" : "term", onclick: () => point(match, row) },
          added && h("span", { class: "plus", "aria-hidden": "true" }, "+"),
          match.term,
          added && h("span", { class: "unseen" }, ` (added to the ${sides})`),
        ),
      ),
      h("td", { class: "wide" }, bar(match.contribution / strongest, added)),
      h("td", { class: "num sum" }, number(match.contribution, 2)),
      h("td", { class: "num product" }, factor(match.query_weight, match.query_expansion), " × ", factor(match.document_weight, match.document_expansion)),
    );
    return row;
  });
  const sum = explained.terms.reduce((total, match) => total + match.contribution, 0);
  const columns = ["term", "", "adds", "query × document"];
  panel.replaceChildren(
    ...[
      explained.note && h("p", { class: "hint" }, explained.note),
      explained.parts.length > 1 && partsBar(explained),
      explained.parts.filter((part) => Object.keys(part.words).length).map((part) => words(part, characters, (spans) => text.replaceChildren(...marked(characters, spans)))),
      rows.length > 0 &&
        h(
          "div",
          { class: "terms" },
          h(
            "div",
            null,
            folded(rows, SHOWN, (visible) =>
              h(
                "table",
                { class: "bars" },
                h("caption", null, `${plural(rows.length, "shared term")} add up to ${number(sum, 2)}`),
                h("thead", { class: "unseen" }, h("tr", null, columns.map((name) => (name ? h("th", { scope: "col" }, name) : h("td", null))))),
                h("tbody", null, visible),
              ),
            ),
            legend(),
          ),
          detail,
        ),
      !rows.length && !explained.parts.some((part) => part.score > 0) && h("p", { class: "hint" }, "It shares no term with the question."),
    ].flat().filter(Boolean),
  );
  whole();
  panel.addEventListener("pointerleave", () => {
    chosen?.classList.remove("chosen");
    chosen = null;
    if (!panel.hidden) whole();
  });
  if (panel.hidden) text.replaceChildren(...snippet(hit.passage));
  else detail.replaceChildren(h("p", { class: "hint" }, "Point at a term to see where it stands, and where else."));
}

/** What each index adds to a hybrid's score. */
function partsBar(explained) {
  const total = Math.max(explained.score, 1e-9);
  return h(
    "div",
    { class: "parts" },
    h("div", { class: "stack", "aria-hidden": "true" }, explained.parts.map((part) => h("span", { class: `part ${part.part}`, style: { width: `${(100 * Math.max(0, part.contribution)) / total}%` } }))),
    h(
      "ul",
      null,
      explained.parts.map((part) =>
        h("li", null, h("span", { class: `swatch ${part.part}` }), `${PART_NAMES[part.part] ?? part.part} `, h("b", { class: "num" }, number(part.contribution, 3)), part.score !== null && h("span", { class: "hint" }, ` from its own score ${number(part.score, 2)}`)),
      ),
      h("li", { class: "total" }, "score ", h("b", { class: "num" }, number(explained.score, 3))),
    ),
  );
}

/** BM25's words and what each adds to its score; `point(spans)` shows where one is. */
function words(part, characters, point) {
  const entries = Object.entries(part.words).sort((a, b) => b[1] - a[1]);
  return h(
    "p",
    { class: "words" },
    h("span", { class: "hint" }, "Words: "),
    entries.map(([word, score]) => {
      const show = () => point(occurrences(characters, (other) => other.startsWith(plain(word))));
      return h("button", { type: "button", class: "chip", onpointerenter: show, onfocus: show, onclick: show }, word, " ", h("span", { class: "num" }, number(score, 2)));
    }),
  );
}

const factor = (weight, added) => h("span", { class: added ? "added" : null }, number(weight, 2));

// The collection: how much there is of what, the file's parts, its terms, its model, its health.

import { Latest, get, pause } from "./api.js";
import { bar, bytes, h, milliseconds, notice, number, plural, termName } from "./dom.js";
import { formatted } from "./card.js";

const TERMS = 40;
const PART_NAMES = {
  text: "texts and metadata",
  vectors: "vectors, the ground truth",
  postings: "posting lists",
  bm25: "BM25",
  dense: "dense vectors",
  vocabulary: "vocabulary",
  segments: "segments",
  indexes: "other indexes",
};

export async function collectionPage(main) {
  const { figures, segments, modes, model_card: card, name } = await get("collection");
  const latest = new Latest();
  const list = h("div", null);
  const filter = h("input", { type: "search", id: "contains", placeholder: "contains …", autocomplete: "off", spellcheck: "false" });
  const health = h("p", { role: "status", class: "hint" }, "Every checksum is verified, and the index is compared with the stored vectors.");
  const button = h("button", { type: "button", class: "primary", onclick: check }, "Check the file");
  main.replaceChildren(
    h("h1", null, name),
    h(
      "ul",
      { class: "figures" },
      [
        [number(figures.documents), figures.documents === 1 ? "document" : "documents"],
        [number(figures.passages), figures.passages === 1 ? "passage" : "passages"],
        [number(figures.active_terms, 1), "terms a passage"],
        [bytes(figures.file_size), "in one file"],
      ].map(([value, label]) => h("li", null, h("b", null, value), h("span", null, label))),
    ),
    h(
      "div",
      { class: "panels" },
      h(
        "div",
        null,
        h("section", null, h("h2", null, "What the file holds"), parts(figures)),
        h("section", null, h("h2", null, "Health"), health, button),
        h("section", null, h("h2", null, "Segments"), segmentTable(figures, segments)),
        h(
          "section",
          null,
          h("h2", null, "Model"),
          h(
            "dl",
            { class: "fields" },
            [
              ["name", figures.model],
              ["fingerprint", figures.fingerprint],
              ["vocabulary", plural(figures.vocabulary_size, "term")],
              ["window", `${number(figures.window)} tokens a passage`],
              ["weights kept", `from ${figures.min_weight}`],
              ["searched by", modes.join(", ")],
              figures.language && ["stems of words", figures.language],
              figures.unread > 0 && ["hardly read", plural(figures.unread, "document")],
              ["kernel", figures.kernel],
              ["file format", figures.format],
            ].filter(Boolean).map(([key, value]) => [h("dt", null, key), h("dd", null, value)]),
          ),
          card && h("details", { class: "card" }, h("summary", null, "Model card"), formatted(card)),
        ),
      ),
      h("div", null, h("section", null, h("h2", null, "Terms by frequency"), h("label", { for: "contains", class: "unseen" }, "Only terms that contain"), filter, list)),
    ),
  );

  async function showTerms(delay) {
    try {
      const found = await latest.run(async (signal) => {
        if (delay) await pause(delay, signal);
        return get("terms", { k: TERMS, contains: filter.value.trim() }, signal);
      });
      if (found) list.replaceChildren(termTable(found, figures.passages));
    } catch (error) {
      list.replaceChildren(notice(error.message, "error"));
    }
  }

  async function check() {
    button.disabled = true;
    health.textContent = "Checking …";
    try {
      const { problems, milliseconds: took } = await get("check");
      if (problems.length) {
        health.replaceChildren(
          notice(`${plural(problems.length, "problem")} found. Run: spladelite check --repair`, "error"),
          h("ul", null, problems.slice(0, 50).map((found) => h("li", null, `${found.table} ${found.row}: ${found.problem}`))),
        );
      } else {
        health.replaceChildren(h("span", { class: "good" }, "✓ No problem found"), ` in ${milliseconds(took)}.`);
      }
    } catch (error) {
      health.replaceChildren(notice(error.message, "error"));
    }
    button.disabled = false;
  }

  filter.addEventListener("input", () => showTerms(100));
  await showTerms(0);
  return () => latest.stop();
}

function parts(figures) {
  const sizes = Object.entries(figures.sizes).filter(([, size]) => size > 0).sort((a, b) => b[1] - a[1]);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  return h(
    "div",
    { class: "file-parts" },
    h("div", { class: "stack", "aria-hidden": "true" }, sizes.map(([, size], index) => h("span", { class: `shade-${index % 8}`, style: { width: `${(100 * size) / total}%` } }))),
    h(
      "table",
      { class: "plain" },
      h("thead", { class: "unseen" }, h("tr", null, ["part", "size", "share"].map((name) => h("th", { scope: "col" }, name)))),
      h(
        "tbody",
        null,
        sizes.map(([part, size], index) =>
          h("tr", null, h("th", { scope: "row" }, h("span", { class: `swatch shade-${index % 8}` }), PART_NAMES[part] ?? part), h("td", { class: "num" }, bytes(size)), h("td", { class: "num" }, `${number((100 * size) / total)} %`)),
        ),
      ),
    ),
  );
}

function termTable({ terms, terms_in_use: inUse }, passages) {
  const most = terms[0]?.passages ?? 1;
  return h(
    "div",
    null,
    h("p", { class: "hint" }, `${plural(inUse, "term")} of the vocabulary in use`),
    h(
      "table",
      { class: "bars" },
      h("caption", { class: "unseen" }, "Terms by the number of passages that have them"),
      h("thead", { class: "unseen" }, h("tr", null, h("th", { scope: "col" }, "term"), h("td", null), h("th", { scope: "col" }, "passages"))),
      h("tbody", null, terms.map((term) => h("tr", null, h("th", { scope: "row" }, termName(term.term, false)), h("td", { class: "wide" }, bar(term.passages / most)), h("td", { class: "num", title: `${number((100 * term.passages) / Math.max(1, passages), 1)} % of all passages` }, number(term.passages))))),
    ),
    !terms.length && h("p", { class: "hint" }, "None."),
  );
}

function segmentTable(figures, segments) {
  return h(
    "div",
    null,
    h("p", { class: "hint" }, `${plural(segments.length, "sealed segment")}; the newest ${plural(figures.tail, "passage")} wait in the tail, and are searched from their vectors.`),
    segments.length > 0 &&
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Segments" },
        h(
          "table",
          { class: "plain" },
          h("thead", null, h("tr", null, ["segment", "passages", "deleted", "postings"].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", null, segments.map((one) => h("tr", null, h("th", { scope: "row" }, one.segment), [one.passages, one.deleted, one.postings].map((value) => h("td", { class: "num" }, number(value)))))),
        ),
      ),
  );
}

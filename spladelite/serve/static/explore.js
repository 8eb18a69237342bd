// The expansion explorer: any text as the model sees it, and two texts compared.

import { Latest, get, pause } from "./api.js";
import { bar, h, legend, milliseconds, notice, number, plural, termBars, termName } from "./dom.js";

const EXAMPLE = { query: "automobile accident", document: "A car crashed into a tree and the driver was hurt." };

export async function explorePage(main, parameters) {
  const texts = parameters.size ? Object.fromEntries(parameters) : EXAMPLE;
  const left = area("left", texts.query ?? "", "A question, or any text");
  const right = area("right", texts.document ?? "", "Left empty: the same text");
  const status = h("p", { role: "status", class: "hint" });
  const columns = h("div", { class: "vectors" });
  const latest = new Latest();
  main.replaceChildren(
    h("h1", null, "What the model reads into a text"),
    h("p", { class: "lead" }, "A text becomes weighted terms: words of its own, and words that it might as well have used. A document scores by the terms that it shares with the query."),
    h(
      "div",
      { class: "pair" },
      h("div", null, h("label", { for: "left" }, "Query"), left),
      h("div", null, h("label", { for: "right" }, "Document"), right),
    ),
    legend(),
    status,
    columns,
  );

  function changed() {
    const address = new URLSearchParams({ query: left.value, document: right.value });
    history.replaceState(null, "", `#/explore?${address}`);
    return refresh(60);
  }

  async function refresh(delay) {
    const texts = { query: left.value, document: right.value };
    try {
      await latest.run(async (signal) => {
        if (delay) await pause(delay, signal);
        const same = !texts.document.trim();
        const [query, document] = await Promise.all([
          get("expand", { text: texts.query, side: "query" }, signal),
          get("expand", { text: same ? texts.query : texts.document, side: "document" }, signal),
        ]);
        if (!signal.aborted) show(query, document, same);
      });
    } catch (error) {
      status.replaceChildren(notice(error.message, "error"));
    }
  }

  function show(query, document, same) {
    if (!query.terms.length && !document.terms.length) {
      columns.replaceChildren();
      status.textContent = "Type a text.";
      return;
    }
    const weights = new Map(document.terms.map((term) => [term.term, term]));
    const shared = query.terms
      .filter((term) => weights.has(term.term))
      .map((term) => ({ term: term.term, weight: term.weight * weights.get(term.term).weight, expansion: term.expansion || weights.get(term.term).expansion }))
      .sort((a, b) => b.weight - a.weight);
    const score = shared.reduce((total, term) => total + term.weight, 0);
    status.textContent = `Encoded in ${milliseconds(query.milliseconds + document.milliseconds)}`;
    columns.replaceChildren(
      column("As a query", query.terms),
      h(
        "section",
        { class: "shared" },
        h("h2", null, same ? "With itself" : "In common"),
        h("p", { class: "figure" }, number(score, 2), h("span", null, ` score, from ${plural(shared.length, "term")}`)),
        shared.length ? sharedBars(shared) : h("p", { class: "hint" }, "No term in common: the score is 0."),
      ),
      column(same ? "The same text as a document" : "As a document", document.terms),
    );
  }

  left.addEventListener("input", changed);
  right.addEventListener("input", changed);
  await refresh(0);
  return () => latest.stop();
}

function area(id, value, placeholder) {
  const element = h("textarea", { id, rows: "3", placeholder, spellcheck: "false" });
  element.value = value;
  return element;
}

function column(heading, terms) {
  const added = terms.filter((term) => term.expansion).length;
  return h("section", null, h("h2", null, heading), h("p", { class: "hint" }, `${plural(terms.length, "term")}, ${number(added)} added`), terms.length ? termBars(terms, { label: heading }) : null);
}

function sharedBars(terms) {
  const strongest = terms[0].weight;
  return h(
    "table",
    { class: "bars" },
    h("caption", { class: "unseen" }, "Shared terms: product of the two weights"),
    h("thead", { class: "unseen" }, h("tr", null, h("th", { scope: "col" }, "term"), h("td", null), h("th", { scope: "col" }, "product"))),
    h(
      "tbody",
      null,
      terms.slice(0, 24).map((term) =>
        h("tr", null, h("th", { scope: "row" }, termName(term.term, term.expansion)), h("td", { class: "wide" }, bar(term.weight / strongest, term.expansion)), h("td", { class: "num" }, number(term.weight, 2))),
      ),
    ),
  );
}

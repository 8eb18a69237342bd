// The search page: results as you type, filters, modes, and why each hit is one.

import { Latest, get, pause, post, remove } from "./api.js";
import { bar, documentLink, h, milliseconds, notice, number, plural, readable, snippet, termLink, title } from "./dom.js";
import { why } from "./why.js";

const PAGE = 10;
const LISTED = 6; // values of a field, before "more"
const MODES = {
  hybrid: "everything that the file has, fused",
  splade: "terms that the model gives to texts, also those that are not in them",
  bm25: "the words themselves",
  dense: "dense vectors",
};

export async function searchPage(main, parameters, library) {
  const state = {
    q: parameters.get("q") ?? "",
    mode: library.modes.includes(parameters.get("mode")) ? parameters.get("mode") : library.modes[0],
    where: parse(parameters.get("where")),
  };
  const latest = new Latest();
  const box = h("input", {
    id: "q",
    type: "search",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    placeholder: "Ask in your own words",
    value: state.q,
    "aria-describedby": "status",
    enterkeyhint: "search",
  });
  const status = h("p", { id: "status", role: "status" });
  const expansion = h("div", { class: "expansion-line" });
  const hits = h("ol", { class: "hits", "aria-label": "Hits" });
  const more = h("button", { type: "button", class: "more", hidden: true, onclick: () => nextPage() }, "More hits");
  const filters = h("div", { class: "facets" });
  const wide = matchMedia("(min-width: 60rem)");
  const side = h("details", { class: "side", open: wide.matches }, h("summary", null, "Filters"), filters);
  const modes = h(
    "fieldset",
    { class: "modes" },
    h("legend", { class: "unseen" }, "Search with"),
    library.modes.map((mode) =>
      h(
        "label",
        { title: MODES[mode] },
        h("input", {
          type: "radio",
          name: "mode",
          value: mode,
          checked: mode === state.mode,
          onchange: () => {
            state.mode = mode;
            changed(0);
          },
        }),
        h("span", null, mode),
      ),
    ),
  );
  const form = h(
    "form",
    {
      role: "search",
      class: "searchbar",
      onsubmit: (event) => {
        event.preventDefault();
        changed(0);
      },
    },
    h("label", { for: "q", class: "unseen" }, "Search"),
    box,
    modes,
  );
  main.replaceChildren(
    h("h1", { class: "unseen" }, "Search"),
    form,
    expansion,
    h("div", { class: "columns" }, side, h("section", { class: "results", "aria-label": "Results" }, status, hits, more)),
  );

  /** Something was typed or chosen: the address tells it, too, for the way back. */
  function changed(delay) {
    state.q = box.value;
    const address = new URLSearchParams();
    if (state.q) address.set("q", state.q);
    if (state.mode !== library.modes[0]) address.set("mode", state.mode);
    if (Object.keys(state.where).length) address.set("where", JSON.stringify(state.where));
    history.replaceState(null, "", `#/search${address.size ? `?${address}` : ""}`);
    return refresh(delay);
  }

  async function refresh(delay) {
    const question = { q: state.q, mode: state.mode, where: JSON.stringify(state.where) };
    try {
      await latest.run(async (signal) => {
        if (delay) await pause(delay, signal);
        const start = performance.now();
        const found = await get("search", { ...question, k: PAGE }, signal);
        const took = performance.now() - start;
        if (signal.aborted) return;
        show(found, took);
        const read = state.q.trim() && ["hybrid", "splade"].includes(state.mode);
        const [expanded, facets] = await Promise.all([
          read ? get("expand", { text: state.q, side: "query" }, signal) : null,
          get("facets", question, signal),
        ]);
        if (signal.aborted) return;
        showExpansion(expanded);
        showFacets(facets);
        if (found.hits.length && state.q.trim() && wide.matches) {
          await pause(150, signal);
          if (!hits.contains(document.activeElement)) hits.querySelector("li")?.openWhy?.(true);
        }
      });
    } catch (error) {
      hits.replaceChildren();
      more.hidden = true;
      status.replaceChildren(notice(error.message, "error"));
    }
  }

  function show(found, took) {
    const searched = found.query.trim() !== "";
    const chosen = Object.keys(state.where).length > 0;
    status.textContent = searched
      ? `${found.hits.length ? `The best of ${plural(library.figures.documents, "document")}` : "Nothing found"} · ${milliseconds(found.milliseconds)} to search, ${milliseconds(took)} until shown`
      : `${chosen ? "Documents that pass the filters" : plural(library.figures.documents, "document")}, the newest first`;
    const best = found.hits[0]?.score ?? 1;
    hits.replaceChildren(...found.hits.map((hit, index) => hitItem(hit, index, best, found)));
    hits.start = 1;
    more.hidden = !found.more;
    if (!found.hits.length && (searched || chosen)) {
      hits.append(h("li", { class: "empty" }, chosen ? "No document that passes the filters matches. " : "No document shares a term with this. ", chosen && h("button", { type: "button", class: "quiet", onclick: clear }, "Remove the filters")));
    }
  }

  async function nextPage() {
    const offset = hits.children.length;
    const question = { q: state.q, mode: state.mode, where: JSON.stringify(state.where), k: PAGE, offset };
    const found = await latest.run((signal) => get("search", question, signal));
    if (!found) return;
    const best = Number(hits.firstElementChild.dataset.score) || 1;
    hits.append(...found.hits.map((hit, index) => hitItem(hit, offset + index, best, found)));
    hits.children[offset]?.querySelector("a").focus();
    more.hidden = !found.more;
  }

  function hitItem(hit, index, best, found) {
    const searched = found.query.trim() !== "";
    const name = title(hit);
    const panel = h("div", { class: "why", hidden: true, id: `why-${index}` });
    const text = h("p", { class: "passage" }, snippet(hit.passage));
    const toggle = h("button", { type: "button", "aria-expanded": "false", "aria-controls": panel.id, onclick: () => open(panel.hidden) }, "Why?");
    const item = h(
      "li",
      { class: "hit", "data-score": hit.score },
      h(
        "div",
        { class: "head" },
        h("h2", null, h("a", { href: documentLink(hit.id) }, name)),
        searched &&
          h("span", { class: "score", title: "score" }, bar(hit.score / best), h("span", { class: "unseen" }, "score "), number(hit.score, found.mode === "hybrid" ? 3 : 2)),
      ),
      chips(hit, name),
      text,
      h(
        "div",
        { class: "actions" },
        searched && toggle,
        h("a", { class: "button", href: documentLink(hit.id) }, "Open", h("span", { class: "unseen" }, ` ${name}`)),
        searched && library.feedback && judge(hit, name),
        library.writable && h("button", { type: "button", class: "danger", onclick: () => drop(hit, name, item) }, "Delete", h("span", { class: "unseen" }, ` ${name}`)),
      ),
      panel,
    );
    function open(wanted) {
      if (panel.hidden !== wanted) return;
      panel.hidden = !wanted;
      toggle.setAttribute("aria-expanded", String(wanted));
      if (wanted && !panel.childElementCount) why(panel, text, hit, found);
      if (!wanted) text.replaceChildren(...snippet(hit.passage));
    }
    item.openWhy = open;
    item.toggleWhy = () => searched && open(panel.hidden);
    return item;
  }

  function judge(hit, name) {
    const buttons = [
      ["👍", 1, "a good answer"],
      ["👎", 0, "no answer"],
    ].map(([sign, value, label]) =>
      h(
        "button",
        {
          type: "button",
          "aria-label": `${name} is ${label}`,
          "aria-pressed": "false",
          onclick: async (event) => {
            await post("feedback", { q: state.q, id: hit.id, value });
            for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.target));
          },
        },
        sign,
      ),
    );
    return buttons;
  }

  async function drop(hit, name, item) {
    if (!confirm(`Delete “${name}” from ${library.name}?`)) return;
    try {
      await remove("document", { id: hit.id });
      library.figures.documents -= 1;
      item.remove();
      status.textContent = `Deleted ${name}`;
    } catch (error) {
      status.replaceChildren(notice(error.message, "error"));
    }
  }

  function showExpansion(expanded) {
    if (!expanded) {
      const hint = "Type, and see which words the model adds to yours.";
      expansion.replaceChildren(state.q.trim() ? "" : h("span", { class: "label" }, hint));
      return;
    }
    const strongest = expanded.terms[0]?.weight ?? 1;
    expansion.replaceChildren(
      h("span", { class: "label" }, "Searched for"),
      ...expanded.terms.slice(0, 18).map((term) =>
        h(
          "a",
          { href: termLink(term.term), class: term.expansion ? "chip added" : "chip", title: `weight ${number(term.weight, 2)}`, style: { "--share": (0.25 + 0.75 * (term.weight / strongest)).toFixed(2) } },
          term.expansion && h("span", { "aria-hidden": "true" }, "+"),
          term.term,
        ),
      ),
    );
  }

  // --- filters -------------------------------------------------------------------------------------------------------

  function showFacets({ facets, counted, of }) {
    const focused = document.activeElement?.id;
    side.hidden = !facets.length;
    const chosen = Object.keys(state.where).length;
    side.querySelector("summary").textContent = chosen ? `Filters (${chosen})` : "Filters";
    filters.replaceChildren(
      ...facets.map((facet) => (facet.kind === "range" ? range(facet) : values(facet))),
      h("p", { class: "hint" }, of === "best" ? `Counts among the best ${plural(counted, "document")}.` : `Counts over ${plural(counted, "document")}.`),
      chosen ? h("button", { type: "button", class: "quiet", onclick: clear }, "Remove the filters") : "",
    );
    if (focused) document.getElementById(focused)?.focus();
  }

  function values(facet) {
    const operator = facet.kind === "list" ? "$any" : "$in";
    const chosen = state.where[facet.field]?.[operator] ?? [];
    return h(
      "fieldset",
      null,
      h("legend", null, shown(facet.field)),
      facet.values.map(({ value, count }, index) =>
        h(
          "label",
          { hidden: index >= LISTED && !chosen.includes(value) },
          h("input", {
            type: "checkbox",
            id: `facet-${facet.kind}-${facet.field}-${typeof value}-${value}`,
            checked: chosen.includes(value),
            onchange: (event) => {
              const rest = chosen.filter((other) => other !== value);
              filter(facet.field, event.target.checked ? { [operator]: [...rest, value] } : rest.length ? { [operator]: rest } : null);
            },
          }),
          h("span", { class: "value" }, String(value)),
          h("span", { class: "count" }, number(count)),
        ),
      ),
      !facet.values.length && h("p", { class: "hint" }, "none among the best"),
      facet.values.length > LISTED && h("button", { type: "button", class: "quiet", onclick: unfold }, `${facet.values.length - LISTED} more`),
    );
  }

  function unfold(event) {
    for (const label of event.target.parentElement.querySelectorAll("label")) label.hidden = false;
    event.target.remove();
  }

  function range(facet) {
    const bounds = state.where[facet.field] ?? {};
    const field = (operator, label, placeholder) =>
      h(
        "label",
        null,
        h("span", { class: "unseen" }, `${shown(facet.field)} ${label}`),
        h("input", {
          type: "number",
          step: "any",
          id: `facet-${facet.field}-${operator}`,
          placeholder,
          value: bounds[operator] ?? "",
          onchange: (event) => {
            const { [operator]: _, ...rest } = state.where[facet.field] ?? {};
            const value = event.target.valueAsNumber;
            const next = Number.isNaN(value) ? rest : { ...rest, [operator]: value };
            filter(facet.field, Object.keys(next).length ? next : null);
          },
        }),
      );
    return h(
      "fieldset",
      { class: "range" },
      h("legend", null, shown(facet.field)),
      field("$gte", "at least", facet.minimum),
      h("span", { "aria-hidden": "true" }, "–"),
      field("$lte", "at most", facet.maximum),
    );
  }

  function filter(field, condition) {
    const { [field]: _, ...rest } = state.where;
    state.where = condition ? { ...rest, [field]: condition } : rest;
    changed(0);
  }

  function clear() {
    state.where = {};
    changed(0);
  }

  // --- keys ----------------------------------------------------------------------------------------------------------

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("dialog, textarea")) return;
    const item = event.target.closest?.("li.hit");
    const inBox = event.target === box;
    if (event.key === "Escape" && !inBox) {
      box.focus();
    } else if (event.key === "ArrowDown" && (inBox || item)) {
      event.preventDefault();
      (item ? item.nextElementSibling : hits.firstElementChild)?.querySelector("h2 a")?.focus();
    } else if (event.key === "ArrowUp" && item) {
      event.preventDefault();
      (item.previousElementSibling?.querySelector("h2 a") ?? box).focus();
    } else if (event.key === "w" && item && !event.target.closest("input")) {
      item.toggleWhy();
    }
  }

  box.addEventListener("input", () => changed(30));
  document.addEventListener("keydown", keys);
  box.focus();
  box.setSelectionRange(box.value.length, box.value.length);
  await refresh(0);
  return () => {
    latest.stop();
    document.removeEventListener("keydown", keys);
  };
}

function parse(where) {
  try {
    const condition = JSON.parse(where ?? "{}");
    return condition !== null && typeof condition === "object" && !Array.isArray(condition) ? condition : {};
  } catch {
    return {};
  }
}

const shown = (field) => field.replace(/\\(.)/g, "$1");

function chips(hit, name) {
  const shown = Object.entries(hit.metadata).filter(([key, value]) => value !== null && value !== "" && !(["title", "name"].includes(key) && value === name));
  if (!shown.length && name === hit.id) return null;
  return h(
    "p",
    { class: "meta" },
    name !== hit.id && h("span", { class: "id" }, hit.id),
    shown.slice(0, 6).map(([key, value]) => h("span", null, h("span", { class: "key" }, key), " ", readable(value).slice(0, 60))),
  );
}

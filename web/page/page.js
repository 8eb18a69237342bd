// A page around spladelite/index.js. Change it as you like: the next export leaves changed files alone.
import { open } from "./spladelite/index.js";

const MOST_VALUES = 60; // of a field that is offered as a filter
const WAYS = {
  quick: { label: () => "quick", options: { encoder: "idf" } },
  full: { label: (db) => `SPLADE encoder (${size(db.contents.files.encoder[0][1])}, once)`, options: { encoder: "model" } },
  bm25: { label: () => "BM25 alone", options: { mode: "bm25" } },
};

const $ = (id) => document.getElementById(id);
let db;
let running;

/** An element with attributes and children; texts become text, never HTML. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} KB` : `${(bytes / 1e6).toFixed(1)} MB`);
const show = (value) => (typeof value === "string" ? value : JSON.stringify(value));

async function start() {
  db = await open("./", { onNotice: notice });
  const ways = Object.entries(WAYS).filter(([, { options }]) => can(options));
  const asked = new URLSearchParams(location.search);
  for (const [name, { label }] of ways) {
    const radio = element("input", { type: "radio", name: "way", value: name, checked: name === asked.get("way") });
    $("ways").append(element("label", {}, radio, ` ${label(db)}`));
  }
  if (ways.length && !way()) $("ways").querySelector("input").checked = true;
  $("ways").hidden = ways.length < 2;
  const fields = db.abilities.fields.filter(({ distinct }) => distinct > 1 && distinct <= MOST_VALUES).slice(0, 8);
  $("filters").hidden = !fields.length;
  $("filters").addEventListener("toggle", () => offer(fields), { once: true });
  $("about").textContent = `${db.documents.toLocaleString()} documents, searched in this browser by SpladeLite (${db.contents.model}).`;
  for (const note of db.contents.notes) console.info(note);
  $("query").value ||= asked.get("q") ?? ""; // unless something was typed while this loaded
  $("keep").hidden = !globalThis.caches;
  $("keep").addEventListener("click", keep);
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    search(0);
  });
  $("query").addEventListener("input", () => search(150));
  $("ways").addEventListener("change", () => search(0));
  $("fields").addEventListener("change", () => search(0));
  navigator.serviceWorker?.register("worker.js").catch(() => {});
  await search(0);
}

function can({ encoder, mode }) {
  return encoder ? db.abilities.encoders.includes(encoder) : db.abilities.modes.includes(mode);
}

function way() {
  return $("ways").querySelector("input:checked")?.value;
}

/** The filters that are set, as `where`. */
function where() {
  const set = [...$("fields").querySelectorAll("select")].filter((select) => select.value);
  return set.length ? Object.fromEntries(set.map((select) => [select.name, JSON.parse(select.value)])) : undefined;
}

async function offer(fields) {
  for (const { path } of fields) {
    const select = element("select", { name: path }, element("option", { value: "" }, "any"));
    $("fields").append(element("label", {}, path.replaceAll("\\", ""), select));
    for (const [value, count] of await db.values(path)) {
      select.append(element("option", { value: JSON.stringify(value) }, `${show(value)} (${count.toLocaleString()})`));
    }
  }
}

async function search(delay) {
  running?.abort();
  const mine = (running = new AbortController());
  await new Promise((resolve) => setTimeout(resolve, delay));
  if (mine.signal.aborted) return;
  const text = $("query").value.trim();
  remember(text);
  if (!text) {
    $("hits").replaceChildren();
    $("meaning").hidden = true;
    $("status").textContent = "";
    return;
  }
  const before = db.traffic;
  const started = performance.now();
  try {
    const { options } = WAYS[way()];
    if (options.encoder === "model") {
      await db.loadEncoder((bytes, of) => {
        if (!mine.signal.aborted) $("status").textContent = `Loading the SPLADE encoder, ${size(bytes)} of ${size(of)}, once`;
      });
    }
    const found = await db.search(text, { ...options, where: where(), signal: mine.signal });
    const { requests, bytes } = db.traffic;
    $("status").textContent =
      `${found.hits.length ? `The best ${found.hits.length}` : "Nothing found"} in ${Math.round(performance.now() - started)} ms` +
      (requests > before.requests ? `, ${requests - before.requests} requests, ${size(bytes - before.bytes)}` : ", nothing fetched");
    meaning(found);
    $("hits").replaceChildren(...found.hits.map(hit));
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    $("status").textContent = error.message;
    $("hits").replaceChildren();
    $("meaning").hidden = true;
    if (error.name !== "SpladeLiteError") throw error;
  }
}

/** The query as the index sees it. */
function meaning({ query, words }) {
  const terms = query.length ? query : words.map((term) => ({ term }));
  $("meaning").hidden = !terms.length;
  const shown = terms.slice(0, 16).map(({ term, weight, expansion }) => {
    const title = weight === undefined ? "" : `weight ${weight.toFixed(2)}${expansion ? ", not in your words" : ""}`;
    return element(expansion ? "i" : "b", { title }, `${term} `);
  });
  $("meaning").replaceChildren("Searched for: ", ...shown, terms.length > 16 ? `and ${terms.length - 16} more` : "");
}

function hit(found) {
  const title = typeof found.metadata.title === "string" ? found.metadata.title : found.id;
  const url = link(found.metadata.url);
  const text = element("p", { className: "text" }, ...db.highlight(found).map(({ text, mark }) => (mark ? element("mark", {}, text) : text)));
  const others = Object.entries(found.metadata).filter(([key]) => key !== "title" && key !== "url");
  const data = [found.id, ...others.map(([key, value]) => `${key}: ${show(value)}`)].join(" · ");
  return element(
    "li",
    {},
    element("h2", {}, url ? element("a", { href: url }, title) : title),
    text,
    element("p", { className: "data" }, data),
    element("details", {}, element("summary", {}, `Why: score ${found.score.toFixed(3)}`), why(found)),
  );
}

/** What each term adds to the score: in a hybrid, as much of its part's share as it has of the part's score. */
function why(found) {
  const rows = found.parts.flatMap(({ part, score, contribution, words }) => {
    const terms = part === "bm25" ? words.map(({ word, contribution }) => ({ term: word, contribution })) : found.terms;
    const share = score ? contribution / score : 0;
    return terms.map((term) => ({ ...term, part, adds: term.contribution * share }));
  });
  rows.sort((a, b) => b.adds - a.adds);
  const parts = found.parts.map(({ part, contribution }) => `${PARTS[part]} ${contribution.toFixed(2)}`);
  return element(
    "div",
    {},
    found.parts.length > 1 ? element("p", { className: "data" }, parts.join(" + ")) : null,
    element("table", { className: "why" }, element("tbody", {}, ...rows.slice(0, 20).map((row) => whyRow(row, rows[0].adds, found.parts.length > 1)))),
  );
}

const PARTS = { splade: "SPLADE", bm25: "BM25" };

function whyRow({ term, part, expansion, queryWeight, documentWeight, adds }, most, several) {
  const bar = element("span", { className: `bar ${expansion ? "added" : part}` });
  bar.style.width = `${(100 * adds) / most}%`;
  const product = part === "bm25" ? "" : `${queryWeight.toFixed(2)} × ${documentWeight.toFixed(2)}`;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, expansion ? element("i", { title: "not in your words" }, term) : term),
    several ? element("td", {}, PARTS[part]) : null,
    element("td", { className: "product" }, product),
    element("td", {}, adds.toFixed(2)),
    element("td", {}, bar),
  );
}

function link(url) {
  return typeof url === "string" && /^https?:\/\//.test(url) ? url : null;
}

function remember(text) {
  const parameters = new URLSearchParams(text ? { q: text, way: way() ?? "" } : {});
  history.replaceState(null, "", text ? `?${parameters}` : location.pathname);
}

async function keep() {
  $("keep").disabled = true;
  try {
    await db.keepOffline((bytes, of) => {
      $("keep").textContent = `${size(bytes)} of ${size(of)}`;
    });
    $("keep").textContent = "Works without a network";
  } catch (error) {
    $("keep").disabled = false;
    $("keep").textContent = "Keep for use without a network";
    notice(error.message);
  }
}

function notice(text) {
  $("notice").hidden = false;
  $("notice").textContent = text;
}

start().catch((error) => {
  $("status").textContent = error.message;
  throw error;
});

// The search box of these pages. It is SpladeLite's own web export of the pages, which lies in search/: nothing is asked of
// a server but ranges of files.
const root = new URL("../", import.meta.url);
let opened;
let running;

const box = document.createElement("div");
box.className = "splade-search";
box.innerHTML = '<input type="search" placeholder="Search" aria-label="Search these pages" autocomplete="off"><ol hidden></ol>';
const [input, list] = box.children;

function open() {
  opened ??= import(new URL("search/spladelite/index.js", root)).then((module) => module.open(new URL("search/", root).href));
  return opened;
}

function entry(db, hit) {
  const link = document.createElement("a");
  link.href = new URL(hit.metadata.page, root);
  link.append(Object.assign(document.createElement("strong"), { textContent: hit.metadata.title }));
  const text = document.createElement("span");
  for (const { text: part, mark } of db.highlight(hit)) {
    text.append(mark ? Object.assign(document.createElement("mark"), { textContent: part }) : part);
  }
  link.append(text);
  const item = document.createElement("li");
  item.append(link);
  return item;
}

async function search() {
  running?.abort();
  const query = input.value.trim();
  list.hidden = !query;
  if (!query) return list.replaceChildren();
  running = new AbortController();
  try {
    const db = await open();
    const { hits } = await db.search(query, { k: 8, signal: running.signal });
    const nothing = Object.assign(document.createElement("li"), { textContent: "Nothing found" });
    list.replaceChildren(...(hits.length ? hits.map((hit) => entry(db, hit)) : [nothing]));
  } catch (error) {
    if (error.name === "AbortError") return;
    list.replaceChildren(Object.assign(document.createElement("li"), { textContent: String(error.message ?? error) }));
  }
}

input.addEventListener("focus", open, { once: true });
input.addEventListener("input", search);
box.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    input.value = "";
    search();
  }
});
document.querySelector(".md-header__inner")?.append(box);

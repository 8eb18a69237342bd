// Which page is shown, and the keys that work on all of them.

import { ApiError, get, takeToken } from "./api.js";
import { notice, h } from "./dom.js";
import { addPage } from "./add.js";
import { collectionPage } from "./collection.js";
import { documentPage, termPage } from "./document.js";
import { explorePage } from "./explore.js";
import { searchPage } from "./search.js";

const PAGES = {
  search: ["Search", searchPage],
  explore: ["Explore", explorePage],
  collection: ["Collection", collectionPage],
  document: ["Document", documentPage],
  term: ["Term", termPage],
  add: ["Add", addPage],
};

const main = document.getElementById("main");
const help = document.getElementById("help");
let library = null;
let leave = () => {};
let visits = 0;

async function show(first = false) {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const name = path in PAGES ? path : "search";
  const [label, page] = PAGES[name];
  const visit = ++visits;
  const view = h("div", { class: name });
  leave();
  leave = () => {};
  try {
    library ??= await get("collection");
    document.getElementById("name").textContent = library.name;
    document.getElementById("nav-add").hidden = !library.writable;
    document.title = `${label} · ${library.name} · SpladeLite`;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (visit !== visits) return;
    main.replaceChildren(view);
    window.scrollTo(0, 0);
    const end = (await page(view, new URLSearchParams(query), library)) ?? (() => {});
    if (visit !== visits) {
      end(); // its reader has gone on before it was ready: it is no longer on the page
      return;
    }
    leave = end;
    if (!first && name !== "search") main.focus({ preventScroll: true });
  } catch (error) {
    if (error.name === "AbortError" || visit !== visits) return;
    main.replaceChildren(
      error instanceof ApiError && error.kind === "NoToken"
        ? h(
            "div",
            { class: "error", role: "alert" },
            h("h1", null, "This page needs its token"),
            h("p", null, "Open the whole address that ", h("code", null, "spladelite serve"), " printed, with ", h("code", null, "#token=…"), " at its end. Each start makes a new one."),
          )
        : notice(error.message, "error"),
    );
    if (!(error instanceof ApiError)) throw error;
  }
}

const typing = (target) => target.closest("input:not([type=checkbox], [type=radio]), textarea, select, dialog") !== null;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (event.key === "/") {
    event.preventDefault();
    const box = document.getElementById("q");
    if (box) box.focus();
    else location.hash = "#/search";
  } else if (event.key === "?") {
    event.preventDefault();
    help.showModal();
  }
});

document.getElementById("help-button").addEventListener("click", () => help.showModal());
window.addEventListener("hashchange", () => {
  takeToken();
  show();
});
takeToken();
show(true);

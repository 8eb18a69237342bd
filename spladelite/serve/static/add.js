// Adding documents: a text, or files that are dropped. Only with `spladelite serve --write`.

import { get, post, upload } from "./api.js";
import { documentLink, h, notice, number, plural } from "./dom.js";

export async function addPage(main, parameters, library) {
  if (!library.writable) {
    main.replaceChildren(h("h1", null, "Read-only"), h("p", { class: "lead" }, "To add documents, start ", h("code", null, `spladelite serve ${library.name} --write`), "."));
    return;
  }
  const text = h("textarea", { id: "text", rows: "8", required: true, placeholder: "The text of a document" });
  const id = h("input", { id: "id", autocomplete: "off", placeholder: "made from the content" });
  const metadata = h("input", { id: "metadata", autocomplete: "off", placeholder: '{"topic": "news", "year": 2026}', spellcheck: "false" });
  const replace = h("input", { id: "replace", type: "checkbox" });
  const files = h("input", { id: "files", type: "file", multiple: true, accept: ".txt,.md,.jsonl,.csv", onchange: () => take(files.files) });
  const log = h("ul", { class: "log", role: "status", "aria-label": "What was added" });
  const zone = h(
    "div",
    {
      class: "drop",
      ondragover: (event) => {
        event.preventDefault();
        zone.classList.add("over");
      },
      ondragleave: () => zone.classList.remove("over"),
      ondrop: (event) => {
        event.preventDefault();
        zone.classList.remove("over");
        take(event.dataTransfer.files);
      },
    },
    h("p", null, h("b", null, "Drop files here"), " or ", h("label", { for: "files" }, "choose them"), files),
    h("p", { class: "hint" }, ".txt and .md: one document each; .jsonl and .csv: one a line"),
  );
  main.replaceChildren(
    h("h1", null, `Add to ${library.name}`),
    h(
      "div",
      { class: "pair" },
      h(
        "form",
        { class: "fields-form", onsubmit: submit },
        h("label", { for: "text" }, "Text"),
        text,
        h("label", { for: "id" }, "Id ", h("span", { class: "hint" }, "optional")),
        id,
        h("label", { for: "metadata" }, "Metadata ", h("span", { class: "hint" }, "optional, JSON")),
        metadata,
        h("label", { class: "check" }, replace, " Replace a document that has this id"),
        h("button", { class: "primary" }, "Add"),
      ),
      h("div", null, zone, log),
    ),
  );

  async function submit(event) {
    event.preventDefault();
    try {
      const document = { text: text.value, id: id.value.trim() || null, metadata: metadata.value.trim() ? JSON.parse(metadata.value) : null };
      report(await post("documents", { documents: [document], replace: replace.checked }), "Added");
      text.value = id.value = metadata.value = "";
      text.focus();
    } catch (error) {
      log.prepend(h("li", null, notice(error instanceof SyntaxError ? `The metadata is not JSON: ${error.message}` : error.message, "error")));
    }
  }

  async function take(list) {
    const all = [...list];
    for (const [index, file] of all.entries()) {
      const line = h("li", null, `${file.name} … ${all.length > 1 ? `(${number(index + 1)} of ${number(all.length)})` : ""}`);
      log.prepend(line);
      try {
        const added = await upload("files", { name: file.name, replace: replace.checked }, file);
        line.remove();
        report(added, file.name);
      } catch (error) {
        line.replaceChildren(notice(`${file.name}: ${error.message}`, "error"));
      }
    }
    files.value = "";
  }

  function report({ ids, documents }, what) {
    library.figures.documents = documents;
    log.prepend(
      h("li", null, `${what}: `, ids.length === 1 ? h("a", { href: documentLink(ids[0]) }, ids[0]) : plural(ids.length, "document"), h("span", { class: "hint" }, ` ${plural(documents, "document")} now`)),
    );
  }
}

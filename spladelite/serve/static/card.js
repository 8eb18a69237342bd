// A model card: headings, paragraphs, lists, tables and code of Markdown, as elements.

import { h } from "./dom.js";

export function formatted(markdown) {
  const blocks = markdown.split(/\n{2,}/).map((block) => block.trimEnd()).filter(Boolean);
  return h("div", { class: "formatted" }, blocks.map(block));
}

function block(text) {
  const lines = text.split("\n");
  const heading = /^(#{1,4}) (.*)$/.exec(lines[0]);
  if (heading) return [h(`h${Math.min(6, heading[1].length + 2)}`, null, inline(heading[2])), ...(lines.length > 1 ? [block(lines.slice(1).join("\n"))] : [])].flat();
  if (lines[0].startsWith("|")) return table(lines);
  if (/^[*-] /.test(lines[0])) {
    const items = text.split(/\n(?=[*-] )/).map((item) => item.replace(/^[*-] /, "").replace(/\n\s*/g, " "));
    return h("ul", null, items.map((item) => h("li", null, inline(item))));
  }
  if (lines[0].startsWith("```")) return h("pre", null, lines.slice(1, -1).join("\n"));
  return h("p", null, inline(lines.join(" ")));
}

function table(lines) {
  const cells = (line) => line.replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const [head, , ...rows] = lines.map(cells);
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" },
    h(
      "table",
      { class: "plain" },
      head.some(Boolean) && h("thead", null, h("tr", null, head.map((cell) => (cell ? h("th", { scope: "col" }, inline(cell)) : h("td", null))))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map((cell) => h("td", null, inline(cell)))))),
    ),
  );
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((piece) => {
    if (piece.startsWith("`")) return h("code", null, piece.slice(1, -1));
    if (piece.startsWith("**")) return h("strong", null, piece.slice(2, -2));
    return piece;
  });
}

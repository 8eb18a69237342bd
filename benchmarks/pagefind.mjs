// A Pagefind bundle of the first N texts of a corpus in BEIR layout, for benchmarks/web.py:
//
//     npm install --prefix build/npm pagefind
//     node benchmarks/pagefind.mjs corpus.jsonl.gz 20000 FOLDER
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";
import * as pagefind from "../build/npm/node_modules/pagefind/lib/index.js";

const [corpus, count, folder] = process.argv.slice(2);
const lines = zlib.gunzipSync(fs.readFileSync(corpus)).toString().split("\n").slice(0, Number(count));
const { index } = await pagefind.createIndex({});
for (let i = 0; i < lines.length; i += 500) {
  const some = lines.slice(i, i + 500).map((line) => JSON.parse(line));
  await Promise.all(some.map(({ _id, title, text }) =>
    index.addCustomRecord({ url: `/${_id}`, content: `${title}\n${text}`, language: "en", meta: { title } }))); // prettier-ignore
}
await index.writeFiles({ outputPath: path.join(folder, "pagefind") });
await pagefind.close();

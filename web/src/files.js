// The files of an export: whole ones and byte ranges, each fetched once and kept by hand.
//
// Range requests go out with `cache: "no-store"`: Chromium would queue those to one URL behind a lock of its HTTP cache,
// which made a query eight times slower. What was fetched is kept in memory, and in the browser's CacheStorage where the
// page may use it (https or localhost), so that the same query works without a network. Names hold a hash of the
// content: what is kept never goes stale.
import { SpladeLiteError } from "./errors.js";

const NEAR = 8192; // ranges with a smaller gap between them are one request
const MEMORY = 96 << 20;

/** @typedef {[name: string, size: number]} Part */

export class Files {
  /**
   * @param {URL} base the folder, with a slash at its end
   * @param {{ fetch?: typeof fetch, persist?: boolean, onNotice?: (text: string) => void }} options
   */
  constructor(base, { fetch, persist = true, onNotice } = {}) {
    this.base = base;
    this.notices = [];
    /** What was fetched since the folder was opened. */
    this.traffic = { requests: 0, bytes: 0 };
    this.fetch = fetch ?? ((...request) => globalThis.fetch(...request));
    this.onNotice = onNotice ?? ((text) => console.warn(`SpladeLite: ${text}`));
    /** @type {Record<string, Part[]>} */
    this.parts = {};
    this.memory = new Map(); // key: Uint8Array, the one used longest ago first
    this.held = 0;
    this.running = new Map(); // key: promise
    this.whole = new Map(); // name of a part: promise of all of it, where the host sends no ranges
    this.store = persist ? openStore(base) : Promise.resolve(null);
    this.kept = new Set(); // names of parts that are stored as a whole
  }

  /** Read database.json; the newest there is, or, without a network, the one that was kept. */
  async open(contentsName) {
    const url = new URL(contentsName, this.base);
    let bytes;
    try {
      const response = await this.#request(url, { cache: "no-cache" });
      if (!response.ok) throw this.#status(response, contentsName);
      bytes = await this.#body(response);
      await this.#keep(contentsName, bytes);
    } catch (error) {
      bytes = await this.#kept(contentsName);
      if (!bytes) throw error;
    }
    let contents;
    try {
      contents = JSON.parse(new TextDecoder().decode(bytes));
    } catch (error) {
      throw new SpladeLiteError(`${url} is no JSON; copy the exported folder to the host again`, { cause: error });
    }
    if (contents?.writer !== "spladelite") throw new SpladeLiteError(`${url} is not the contents of a SpladeLite export`);
    if (contents.format !== 1) {
      throw new SpladeLiteError(`${url} has format ${contents.format}, and this module reads format 1; use the module of that export`);
    }
    this.parts = contents.files;
    await this.#forgetOthers(contentsName);
    return contents;
  }

  has(file) {
    return file in this.parts;
  }

  size(file) {
    return this.parts[file].reduce((sum, [, size]) => sum + size, 0);
  }

  /** All bytes of a file. `onProgress(bytes, of)` is called while they come. */
  async all(file, onProgress) {
    const total = this.size(file);
    let before = 0;
    const pieces = [];
    for (const part of this.parts[file]) {
      pieces.push(await this.#fetchWhole(part, (bytes) => onProgress?.(before + bytes, total)));
      before += part[1];
      onProgress?.(before, total);
    }
    return joined(pieces);
  }

  /** One byte range. */
  async range(file, start, end) {
    return (await this.ranges(file, [[start, end]]))[0];
  }

  /**
   * Several byte ranges at the same time; neighbours are fetched together.
   * @param {string} file @param {[number, number][]} wanted
   */
  async ranges(file, wanted) {
    const results = new Array(wanted.length);
    const missing = [];
    for (let i = 0; i < wanted.length; i++) {
      const key = rangeKey(file, this.parts, wanted[i]);
      const known = this.memory.get(key) ?? this.running.get(key);
      if (known) results[i] = this.#touch(key, known);
      else missing.push({ i, key, start: wanted[i][0], end: wanted[i][1] });
    }
    missing.sort((a, b) => a.start - b.start);
    for (let first = 0; first < missing.length; ) {
      let last = first;
      let end = missing[first].end;
      while (last + 1 < missing.length && missing[last + 1].start - end <= NEAR) end = Math.max(end, missing[++last].end);
      const group = missing.slice(first, last + 1);
      const start = group[0].start;
      const bytes = this.#span(file, start, end);
      for (const { i, key, start: from, end: to } of group) {
        results[i] = this.#once(key, async () => (await bytes).slice(from - start, to - start));
      }
      first = last + 1;
    }
    return Promise.all(results);
  }

  /** Store whole files in the browser so that everything works without a network. */
  async keepOffline(files, onProgress) {
    const store = await this.store;
    if (!store) throw new SpladeLiteError("this browser keeps nothing for this page; it must come by https or from localhost");
    const parts = files.flatMap((file) => this.parts[file] ?? []);
    const total = parts.reduce((sum, [, size]) => sum + size, 0);
    let before = 0;
    for (const part of parts) {
      if (!this.kept.has(part[0])) {
        const bytes = await this.#fetchWhole(part, (more) => onProgress?.(before + more, total));
        await this.#keep(part[0], bytes);
        this.kept.add(part[0]);
      }
      before += part[1];
      onProgress?.(before, total);
    }
  }

  // --- inside --------------------------------------------------------------------------------------------------------

  async #span(file, start, end) {
    const pieces = [];
    let before = 0;
    for (const part of this.parts[file]) {
      const from = Math.max(start - before, 0);
      const to = Math.min(end - before, part[1]);
      if (from < to) pieces.push(this.#partRange(part, from, to));
      before += part[1];
    }
    if (end > before) throw new SpladeLiteError(`the index names bytes that ${file} does not have; export again`);
    return joined(await Promise.all(pieces));
  }

  async #partRange(part, start, end) {
    const [name, size] = part;
    if (this.whole.has(name)) return (await this.whole.get(name)).subarray(start, end);
    const key = `${name}?bytes=${start}-${end}`;
    const stored = this.kept.has(name) ? (await this.#kept(name))?.subarray(start, end) : await this.#kept(key);
    if (stored?.length === end - start) return stored;
    const response = await this.#request(new URL(name, this.base), {
      cache: "no-store",
      headers: { Range: `bytes=${start}-${end - 1}` },
    });
    const encoding = response.headers.get("Content-Encoding");
    const compressed = encoding && encoding !== "identity";
    if (response.status === 200) {
      // The headers come before the body, so only one of many such answers is read.
      if (this.whole.has(name)) {
        response.body?.cancel().catch(() => {});
      } else {
        this.#notice(
          `the host answers range requests for ${name} with the whole file of ${size.toLocaleString("en")} bytes` +
            (compressed ? ` and compresses it (${encoding}); turn compression off for .bin files` : "") +
            ". Search works, but the first one loads all of it; a host with range requests is much faster",
        );
        this.whole.set(name, this.#body(response).then((bytes) => this.#complete(bytes, part)));
        this.whole.get(name).catch(() => this.whole.delete(name));
      }
      return (await this.whole.get(name)).subarray(start, end);
    }
    if (response.status !== 206) throw this.#status(response, name);
    if (compressed) {
      throw new SpladeLiteError(`the host compresses ${name} (${encoding}), which breaks range requests; turn compression off for .bin files`);
    }
    const total = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
    const bytes = await this.#body(response);
    if ((total && Number(total[1]) !== size) || bytes.length !== end - start) {
      const found = total ? `has ${total[1]} bytes where ${size} were written` : `gave ${bytes.length} bytes where ${end - start} were asked for`;
      throw new SpladeLiteError(`${name} ${found}: it is truncated, or the host compresses it. Copy the exported folder to the host again`);
    }
    await this.#keep(key, bytes);
    return bytes;
  }

  async #fetchWhole(part, onProgress) {
    const [name] = part;
    const stored = await this.#kept(name);
    if (stored?.length === part[1]) return stored;
    const response = await this.#request(new URL(name, this.base), {});
    if (!response.ok) throw this.#status(response, name);
    const bytes = this.#complete(await this.#body(response, onProgress), part);
    await this.#keep(name, bytes);
    return bytes;
  }

  #complete(bytes, [name, size]) {
    if (bytes.length !== size) {
      throw new SpladeLiteError(`${name} has ${bytes.length} bytes where ${size} were written: it is truncated, or not of this export. Copy the exported folder to the host again`);
    }
    return bytes;
  }

  async #request(url, options) {
    this.traffic.requests++;
    try {
      return await this.fetch(url.href, options);
    } catch (error) {
      throw new SpladeLiteError(`${url} cannot be reached, and this part of the database was not kept before; is there a network?`, { cause: error });
    }
  }

  async #body(response, onProgress) {
    const chunks = [];
    let length = 0;
    try {
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        chunks.push(value);
        length += value.length;
        this.traffic.bytes += value.length;
        onProgress?.(length);
      }
    } catch (error) {
      throw new SpladeLiteError(`the host broke off in the middle of ${response.url}; try again`, { cause: error });
    }
    return joined(chunks);
  }

  #status(response, name) {
    if (response.status === 404) {
      return new SpladeLiteError(`${new URL(name, this.base)} is not there; if the site was published again meanwhile, load the page again, else copy the exported folder to the host again`);
    }
    if (response.status === 416) {
      return new SpladeLiteError(`${name} is shorter than what was written: it is truncated. Copy the exported folder to the host again`);
    }
    return new SpladeLiteError(`the host answers ${response.status} ${response.statusText} to ${name}`);
  }

  #notice(text) {
    this.notices.push(text);
    this.onNotice(text);
  }

  /** A promise of the bytes under `key`: from memory, from whoever is fetching them, or from `make`. */
  #once(key, make) {
    const known = this.memory.get(key) ?? this.running.get(key);
    if (known) return this.#touch(key, known);
    const promise = make().then(
      (bytes) => {
        this.running.delete(key);
        this.memory.set(key, bytes);
        this.held += bytes.length;
        for (const [oldest, { length }] of this.memory) {
          if (this.held <= MEMORY || oldest === key) break;
          this.memory.delete(oldest);
          this.held -= length;
        }
        return bytes;
      },
      (error) => {
        this.running.delete(key);
        throw error;
      },
    );
    this.running.set(key, promise);
    return promise;
  }

  #touch(key, known) {
    if (this.memory.delete(key)) this.memory.set(key, known);
    return known;
  }

  async #kept(key) {
    try {
      const response = await (await this.store)?.match(new URL(key, this.base).href);
      return response && new Uint8Array(await response.arrayBuffer());
    } catch {
      return undefined; // a store that fails is a store that has nothing
    }
  }

  async #keep(key, bytes) {
    const store = await this.store;
    // Without waiting: a full disk, or a page that goes away, only means that it is fetched again.
    store?.put(new URL(key, this.base).href, new Response(bytes)).catch(() => {});
  }

  /** Drop what was kept of earlier exports, and see what is there as a whole. */
  async #forgetOthers(contentsName) {
    const store = await this.store;
    if (!store) return;
    try {
      const names = new Set(Object.values(this.parts).flatMap((parts) => parts.map(([name]) => name)));
      names.add(contentsName);
      for (const request of await store.keys()) {
        const url = new URL(request.url);
        const name = decodeURIComponent(url.pathname.slice(url.pathname.lastIndexOf("/") + 1));
        if (!names.has(name)) store.delete(request).catch(() => {});
        else if (!url.search && name !== contentsName) this.kept.add(name);
      }
    } catch {
      this.store = Promise.resolve(null);
    }
  }
}

async function openStore(base) {
  try {
    return await globalThis.caches.open(`spladelite ${base.href}`);
  } catch {
    return null; // no CacheStorage: an insecure page, Node, a private window
  }
}

function rangeKey(file, parts, [start, end]) {
  return `${file} ${parts[file][0][0]} ${start}-${end}`;
}

function joined(pieces) {
  if (pieces.length === 1) return pieces[0];
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let place = 0;
  for (const piece of pieces) {
    whole.set(piece, place);
    place += piece.length;
  }
  return whole;
}

// Keeps the page itself, so that it opens without a network; spladelite/files.js keeps the data.
const PAGE = ["./", "page.css", "page.js"];
const MODULES = ["blake2b", "bytes", "encoder", "english", "errors", "files", "filters", "fusion", "graph", "highlight", "index", "lexicon", "ranking", "reading", "tokenizer", "words"];
const FILES = [...PAGE, ...MODULES.map((name) => `spladelite/${name}.js`)];
const CACHE = `spladelite page ${self.registration.scope}`;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  url.search = "";
  if (!FILES.some((name) => new URL(name, self.registration.scope).href === url.href)) return;
  event.respondWith(
    fetch(event.request).then(
      (response) => {
        if (response.ok) {
          const copy = response.clone();
          event.waitUntil(caches.open(CACHE).then((cache) => cache.put(url.href, copy)));
        }
        return response;
      },
      async (error) => {
        const kept = await (await caches.open(CACHE)).match(url.href);
        if (!kept) throw error;
        return kept;
      },
    ),
  );
});

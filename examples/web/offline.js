// A service worker: what the page has loaded once, it has without a network too.
//
// It also sends the two headers that isolate the page, so that it may use threads on servers that do not send them.

const CACHE = "t2d-page-1"; // another number drops what is cached

addEventListener("install", () => skipWaiting());

addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name.startsWith("t2d-page-") && name !== CACHE) await caches.delete(name);
      await clients.claim();
    })(),
  );
});

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) event.respondWith(answer(request));
});

// The first visit's files came before this worker did: the page names them.
addEventListener("message", (event) => {
  event.waitUntil(keep(event.data.keep));
});

/** @param {string[]} addresses of files that the page has loaded */
async function keep(addresses) {
  const cache = await caches.open(CACHE);
  for (const address of new Set(addresses.filter((one) => new URL(one).origin === location.origin))) {
    if (await cache.match(address)) continue;
    const response = await fetch(address, { cache: "force-cache" }).catch(() => null); // the next visit tries again
    if (response?.status === 200) await store(cache, address, isolated(response));
  }
}

/** @param {Cache} cache @param {string} address @param {Response} response */
async function store(cache, address, response) {
  await cache.put(address, response).catch(() => {}); // there may be no room for it
}

/**
 * From the network, where there is one, so that changed files take the place of those before. Models are not kept here: the
 * page does that, by their checksums.
 * @param {Request} request
 */
async function answer(request) {
  if (request.cache === "force-cache" || request.cache === "reload") return isolated(await fetch(request));
  const cache = await caches.open(CACHE);
  let response;
  try {
    response = await fetch(request, { cache: freshness(request) });
  } catch (error) {
    const found = await cache.match(request.url);
    if (found) return found;
    throw error;
  }
  const whole = isolated(response);
  if (response.status === 200) await store(cache, request.url, whole.clone());
  return whole;
}

/**
 * How a request asks the browser's cache: as it says itself, else whether the server has a newer file. A server tells that by
 * dates in whole seconds, which is too coarse for the page itself.
 * @param {Request} request @returns {RequestCache}
 */
function freshness({ mode, cache }) {
  if (mode === "navigate") return "reload";
  return cache === "default" ? "no-cache" : cache;
}

/** @param {Response} response */
function isolated(response) {
  if (response.status === 0 || response.type === "opaque") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  const { status, statusText } = response;
  return new Response([204, 304].includes(status) ? null : response.body, { status, statusText, headers });
}

// A service worker: what the page has loaded once, it has without a network too.
//
// It also sends the two headers that isolate the page, so that it may use threads on servers that do not send them.

const CACHE = "t2d-1"; // another number drops what is cached

addEventListener("install", () => skipWaiting());

addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name.startsWith("t2d-") && name !== CACHE) await caches.delete(name);
      await clients.claim();
    })(),
  );
});

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) event.respondWith(answer(request));
});

/**
 * Files of a bundle from the cache: the page checks them, and asks anew for others. All else from the network, where there
 * is one, so that changed files take the place of those before.
 * @param {Request} request
 */
async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = () => cache.match(request.url);
  if (request.cache === "force-cache") {
    const found = await kept();
    if (found) return found;
  }
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    const found = await kept();
    if (found) return found;
    throw error;
  }
  const whole = isolated(response);
  if (response.status === 200) await cache.put(request.url, whole.clone()).catch(() => {}); // the cache may be full
  return whole;
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

// Files of a bundle in the browser's Cache API, so that a page downloads its large ones once.

import { sha256 } from "./sha256.js";

const STORE = "t2d-files";

/**
 * @typedef {import("./bundle.js").Reading & {uncached?: (reason: string) => void}} CachedReading `uncached` is told why a
 *   file could not be kept: it is downloaded again the next time
 */

/**
 * A file of a bundle: the copy kept under its checksum, or else downloaded and kept. Another version of the file is then
 * dropped.
 * @param {import("./bundle.js").Bundle} bundle
 * @param {string} path within the bundle
 * @param {CachedReading} [reading]
 * @param {CacheStorage} [caches] where there is none, as in Node.js and on pages without https, nothing is kept
 * @returns {Promise<Uint8Array>}
 */
export async function readCached(bundle, path, reading = {}, caches = globalThis.caches) {
  const record = bundle.manifest.files[path];
  if (!record || !caches) return bundle.read(path, reading);
  const place = `https://t2d.invalid/${encodeURIComponent(bundle.source.name)}/${path}`;
  const key = `${place}?sha256=${record.sha256}`;
  /** @param {unknown} error */
  const failed = (error) => {
    reading.uncached?.(`the browser keeps no copy of ${path}: ${/** @type {Error} */ (error).message}`);
    return null;
  };
  const store = await caches.open(STORE).catch(failed);
  const kept = store && (await find(store, key, record.sha256).catch(failed));
  reading.signal?.throwIfAborted();
  if (kept) {
    reading.progress?.(kept.length);
    return kept;
  }
  const bytes = await bundle.read(path, reading);
  if (store) await keep(store, place, key, bytes).catch(failed);
  return bytes;
}

/** Drop all files that `readCached` kept. */
export async function dropCached(caches = globalThis.caches) {
  await caches?.delete(STORE);
}

/**
 * A kept file; null where there is none, or a damaged one.
 * @param {Cache} store @param {string} key @param {string} digest
 */
async function find(store, key, digest) {
  const response = await store.match(key);
  if (!response) return null;
  const bytes = new Uint8Array(await response.arrayBuffer());
  return (await sha256(bytes)) === digest ? bytes : null;
}

/** @param {Cache} store @param {string} place of all versions @param {string} key @param {Uint8Array} bytes */
async function keep(store, place, key, bytes) {
  for (const old of await store.keys(place, { ignoreSearch: true })) await store.delete(old);
  await store.put(key, new Response(/** @type {BufferSource} */ (bytes)));
}

// Files of a bundle, each checked against the manifest: from a server, or from anything else that reads bytes.

import { InputError } from "./errors.js";
import { readManifest } from "./manifest.js";
import { sha256 } from "./sha256.js";

/**
 * @typedef {import("./manifest.js").BundleFile} BundleFile
 *
 * @typedef {object} Reading
 * @property {(bytes: number) => void} [progress] called with the bytes that arrived; below 0 where they are read again
 * @property {AbortSignal} [signal] gives the reading up
 * @property {boolean} [fresh] whether no cached copy will do
 *
 * @typedef {object} Source where a bundle's files are
 * @property {string} name for messages
 * @property {(path: string, size: number | null, reading: Reading) => Promise<Uint8Array>} read a file; its size in bytes
 *   is null for the manifest
 * @property {(path: string) => string} [locate] the file's place on disk, where there is one: an engine maps it
 */

/** The files of one bundle. */
export class Bundle {
  /** @param {Source} source @param {import("./manifest.js").Manifest} manifest */
  constructor(source, manifest) {
    this.source = source;
    this.manifest = manifest;
  }

  /**
   * Read a bundle's manifest.
   * @param {string | URL | Source} source the bundle's address, or what reads its files
   * @param {string} [precision] of the image encoder
   * @returns {Promise<Bundle>}
   */
  static async open(source, precision = "fp32") {
    const files = typeof source === "string" || source instanceof URL ? served(source) : source;
    const text = new TextDecoder().decode(await files.read("manifest.json", null, { fresh: true }));
    return new Bundle(files, await readManifest(text, joined(files.name, "manifest.json"), precision));
  }

  /**
   * A file, whole and as it was exported.
   * @param {string} path within the bundle
   * @param {Reading} [reading]
   * @returns {Promise<Uint8Array>}
   * @throws {InputError} where it is missing or another one
   */
  async read(path, reading = {}) {
    const record = this.manifest.files[path];
    if (!record) throw new InputError(`the bundle has no ${path}; export it again`);
    const bytes = await this.source.read(path, record.bytes, reading);
    if ((await sha256(bytes)) === record.sha256) return bytes;
    // The copy may be of a bundle that stood there before.
    reading.progress?.(-bytes.length);
    const again = await this.source.read(path, record.bytes, { ...reading, fresh: true });
    if ((await sha256(again)) === record.sha256) return again;
    throw new InputError(
      `${joined(this.source.name, path)} is not the file that manifest.json names; copy or export the bundle again`,
    );
  }
}

/**
 * The files below an address.
 * @param {string | URL} address
 * @returns {Source}
 */
export function served(address) {
  let base;
  try {
    base = new URL(address, globalThis.location?.href);
  } catch {
    throw new InputError(`${address} is not an address; for a folder in Node.js use folder(path) of "t2d/node.js"`);
  }
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return {
    name: base.pathname,
    read: (path, size, reading) => download(new URL(path, base), size, reading),
  };
}

/**
 * @param {URL} url
 * @param {number | null} size bytes, where they are known
 * @param {Reading} reading
 */
export async function download(url, size, { progress = () => {}, signal, fresh = false } = {}) {
  // A bundle may replace another within the second that servers compare dates by: no cached manifest is asked about.
  const ask = (/** @type {RequestCache} */ cache) =>
    fetch(url, { cache, signal }).catch((error) => {
      if (signal?.aborted) throw error;
      throw new InputError(`${url.pathname} cannot be loaded: the server does not answer, or there is no network`);
    });
  let response = await ask(!fresh ? "force-cache" : size === null ? "no-store" : "reload");
  if (!response.ok && !fresh) response = await ask("reload"); // a refusal may be a cached one
  if (!response.ok || !response.body) {
    throw new InputError(`${url.pathname} cannot be loaded: ${response.status} ${response.statusText}`);
  }
  if (size === null) return new Uint8Array(await response.arrayBuffer());
  return fill(new Uint8Array(size), response.body, progress);
}

/**
 * A file of another size is cut or filled with zeros, and fails its checksum.
 * @param {Uint8Array} bytes @param {ReadableStream<Uint8Array>} body @param {(bytes: number) => void} progress
 */
async function fill(bytes, body, progress) {
  let filled = 0;
  for (const reader = body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done || filled + value.length > bytes.length) break;
    bytes.set(value, filled);
    filled += value.length;
    progress(value.length);
  }
  progress(bytes.length - filled);
  return bytes;
}

/** @param {string} name @param {string} path */
function joined(name, path) {
  return name.endsWith("/") ? name + path : `${name}/${path}`;
}

// A bundle in this browser as the page's engine; it runs in worker.js.

import { InputError } from "./errors.js";
import { seconds } from "./page.js";

/** More threads gain little on one picture, and take cores that keep the page responsive. */
const MAX_THREADS = 4;

/** The smallest program that uses SIMD: a function that returns one vector. */
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

/**
 * @typedef {{loaded: number, total: number}} Bytes
 * @typedef {object} Progress one of these
 * @property {Bytes} [model] of the image encoder
 * @property {Bytes | null} [text] of the text encoder; null where it is not being loaded any more
 * @property {string} [uncached] why the browser keeps no copy of a file
 */

export class BrowserEngine {
  live = true;
  /** Addresses of the files that the engine is made of. @type {string[]} */
  loaded = [];
  #address;
  #base;
  #worker;

  /**
   * @param {URLSearchParams} address bundle, precision, engine and threads, where they are not the defaults
   * @param {(progress: Progress) => void} onProgress
   */
  constructor(address, onProgress) {
    this.#address = address;
    this.#base = new URL(address.get("bundle") ?? "bundle/", location.href);
    this.#worker = new WorkerCalls(onProgress);
  }

  async open() {
    requireWebAssembly();
    const precision = this.#address.get("precision") ?? "fp32";
    const begun = performance.now();
    const { threads, told } = this.#threads();
    const { engine, why } = await this.#engine(precision);
    const settings = { base: this.#base.href, precision, engine, threads };
    const { threshold, backbone, bytes, loaded } = await this.#worker.call("open", settings);
    // The workers of masks may come with the next visit only, where that has threads.
    this.loaded = [...["worker.js", "t2d/mask-worker.js"].map((name) => new URL(name, import.meta.url).href), ...loaded];
    const megabytes = (bytes / 1e6).toFixed(1);
    return {
      threshold,
      facts: [
        ["Model", `${backbone}, ${megabytes} MB, ${precision}, loaded in ${seconds(performance.now() - begun)}`],
        ["Engine", why],
        ["Threads", told],
      ],
    };
  }

  /**
   * Take the words of a vocabulary file.
   * @param {Uint8Array} bytes @param {string} name of the file
   * @returns {Promise<{names: string[], phrases: string[], classIndices: number[], thresholds: Record<string, number>}>}
   */
  addVocabulary(bytes, name) {
    return this.#worker.call("addVocabulary", { bytes, name });
  }

  /** Give the text encoder up, or allow it again. @param {boolean} on */
  decline(on) {
    this.#worker.tell("decline", on);
  }

  /** @param {{image: ImageData}} picture */
  async setPicture({ image }) {
    await this.#worker.call("setPicture", image);
  }

  /**
   * @param {import("./words.js").Chosen} chosen
   * @param {import("./t2d/segmenter.js").MaskOptions} options
   */
  async segment(chosen, options) {
    const result = await this.#worker.call("segment", { chosen, options });
    const { words, image, masks } = result.times;
    const encoded = image > 0 ? `picture encoded in ${seconds(image)}` : "picture already encoded";
    const typed = words > 1 ? `words encoded in ${seconds(words)}, ` : "";
    return { ...result, facts: [["Times", `${typed}${encoded}, masks in ${seconds(masks)}`]] };
  }

  /** Pages share memory between threads only where the server isolates them from other sites. */
  #threads() {
    const given = this.#address.get("threads");
    const wanted = Number(given ?? Math.min(navigator.hardwareConcurrency, MAX_THREADS));
    if (!Number.isInteger(wanted) || wanted < 1) throw new InputError(`threads is ${given}, expected 1 or more`);
    if (crossOriginIsolated) return { threads: wanted, told: `${wanted}` };
    return { threads: 1, told: "1: this page is not isolated from other sites, so it has no more (see README.md)" };
  }

  /**
   * WebGPU where there is an adapter of its own hardware, unless the address or the precision says otherwise.
   * @param {string} precision
   */
  async #engine(precision) {
    const given = this.#address.get("engine") ?? "auto";
    if (!["auto", "wasm", "webgpu"].includes(given)) {
      throw new InputError(`engine is ${given}, expected webgpu or wasm`);
    }
    const wasm = (/** @type {string} */ reason) => ({ engine: "wasm", why: `WebAssembly with SIMD${reason}` });
    if (given === "wasm") return wasm(", as asked for");
    const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
    if (given === "webgpu") {
      if (!adapter) throw new InputError("this browser has no WebGPU adapter; leave ?engine=webgpu out");
      return { engine: "webgpu", why: `WebGPU (${adapterName(adapter)}), as asked for` };
    }
    if (!adapter) return wasm(": there is no WebGPU adapter");
    if (adapter.info?.isFallbackAdapter || adapter.isFallbackAdapter) return wasm(": WebGPU has a software adapter only");
    if (precision === "int8") return wasm(": faster for int8 than WebGPU");
    return { engine: "webgpu", why: `WebGPU (${adapterName(adapter)})` };
  }
}

/** @param {any} adapter of WebGPU */
function adapterName({ info = {} }) {
  return info.description || [info.vendor, info.architecture].filter(Boolean).join(" ") || "an adapter without a name";
}

function requireWebAssembly() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new InputError(
      "this browser has no WebAssembly with SIMD, which the model needs; take a browser of 2023 or newer, or allow it",
    );
  }
}

/** Calls of the worker: each returns a promise. */
class WorkerCalls {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #calls = 0;
  #failure = null; // of the worker itself: no call is answered any more

  /** @param {(progress: Progress) => void} onProgress */
  constructor(onProgress) {
    this.#worker.onmessage = ({ data: { id, value, error, about, declined, progress } }) => {
      if (progress) return onProgress(progress);
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) reject(Object.assign(new InputError(error), { about, declined }));
      else resolve(value);
    };
    this.#worker.onerror = ({ message }) => {
      this.#failure = new InputError(`the worker failed: ${message ?? "is the folder t2d beside the page?"}`);
      for (const { reject } of this.#waiting.values()) reject(this.#failure);
    };
  }

  /** A message that waits for no call. @param {string} call @param {any} argument */
  tell(call, argument) {
    this.#worker.postMessage({ call, argument });
  }

  /**
   * @param {"open" | "addVocabulary" | "setPicture" | "segment"} call
   * @param {object} argument
   */
  call(call, argument) {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = (this.#calls += 1);
    this.#worker.postMessage({ id, call, argument });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}

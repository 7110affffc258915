// The graph in this browser as the page's engine; it runs in worker.js.

import { seconds } from "./page.js";
import { InputError } from "./t2d/errors.js";
import { fetchBytes } from "./t2d/fetching.js";
import { readManifest } from "./t2d/manifest.js";

/** More threads gain little on one picture, and take cores that keep the page responsive. */
const MAX_THREADS = 4;

export class GraphEngine {
  /** The bundle's manifest, after `readManifest`. */
  manifest;
  #address;
  #base;
  #worker;

  /**
   * @param {URLSearchParams} address bundle, precision and threads, where they are not the defaults
   * @param {(progress: {loaded: number, total: number}) => void} onProgress bytes of the graph
   */
  constructor(address, onProgress) {
    this.#address = address;
    this.#base = new URL(address.get("bundle") ?? "bundle/", location.href);
    this.#worker = new WorkerCalls(onProgress);
  }

  async readManifest() {
    const url = new URL("manifest.json", this.#base);
    const text = new TextDecoder().decode(await fetchBytes(url, "see README.md for how to serve a bundle"));
    this.manifest = await readManifest(text, url.pathname, this.#address.get("precision") ?? "fp32");
  }

  async open() {
    const { manifest } = this;
    const begun = performance.now();
    const threads = this.#threads();
    await this.#worker.call("open", { base: this.#base.href, manifest, threads });
    const megabytes = manifest.files.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6;
    const told = crossOriginIsolated ? `${threads}` : `${threads}: this server lets pages have no more (see README.md)`;
    const facts = [
      ["Model", `${megabytes.toFixed(1)} MB, ${manifest.precision}, loaded in ${seconds(performance.now() - begun)}`],
      ["Threads", told],
    ];
    return { threshold: manifest.threshold, facts };
  }

  /** @param {{image: ImageData}} picture */
  async setPicture({ image }) {
    await this.#worker.call("setPicture", image);
  }

  /**
   * @param {import("./t2d/vocabulary.js").Vocabulary} words
   * @param {import("./t2d/segmenter.js").Options} options
   */
  async segment(words, options) {
    // Thresholds of words are those of words against background.
    const asWanted = options.background ? words : { ...words, thresholds: {} };
    return this.#worker.call("segment", { words: asWanted, options });
  }

  /** Pages share memory between threads only where the server isolates them from other sites. */
  #threads() {
    const given = this.#address.get("threads");
    const wanted = Number(given ?? Math.min(navigator.hardwareConcurrency, MAX_THREADS));
    if (!Number.isInteger(wanted) || wanted < 1) throw new InputError(`threads is ${given}, expected 1 or more`);
    return crossOriginIsolated ? wanted : 1;
  }
}

/** Calls of the worker: each returns a promise. */
class WorkerCalls {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #calls = 0;
  #failure = null; // of the worker itself: no call is answered any more

  /** @param {(progress: {loaded: number, total: number}) => void} onProgress bytes of the graph */
  constructor(onProgress) {
    this.#worker.onmessage = ({ data: { id, value, error, progress } }) => {
      if (progress) return onProgress(progress);
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) reject(new InputError(error));
      else resolve(value);
    };
    this.#worker.onerror = ({ message }) => {
      const reason = message ?? "is the folder onnxruntime beside the page? 'npm ci' makes it";
      this.#failure = new InputError(`the worker failed: ${reason}`);
      for (const { reject } of this.#waiting.values()) reject(this.#failure);
    };
  }

  /**
   * @param {"open" | "setPicture" | "segment"} call
   * @param {object} argument
   */
  call(call, argument) {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = (this.#calls += 1);
    this.#worker.postMessage({ id, call, argument });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}

// The page's interface to worker.js: each call returns a promise.

import { InputError } from "./t2d/errors.js";

export class Engine {
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

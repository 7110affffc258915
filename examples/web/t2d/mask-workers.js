// Labels of a picture, made by several workers at once, or by none in the caller's own thread.

import { InputError } from "./errors.js";
import { MaskMaker } from "./masks.js";
import { Pamr } from "./pamr.js";

const TOGETHER = 4; // classes that the loops refine as fast as one
const SMALL = 400_000; // pixels that are labelled faster than workers are asked, without PAMR

/**
 * @typedef {import("./masks.js").Part} Part
 * @typedef {import("./planes.js").Result} Result
 * @typedef {(part: Part) => Promise<Result>} Make
 * @typedef {Omit<Part, "first" | "last">} Work
 */

export class MaskWorkers {
  /** @type {Make[]} */
  #makes;
  /** @type {(number | null)[]} the picture that each one knows */
  #known;
  /** @type {() => void} */
  #close;

  /** @param {Make[]} makes @param {() => void} close */
  constructor(makes, close) {
    this.#makes = makes;
    this.#known = makes.map(() => null);
    this.#close = close;
  }

  /**
   * @param {BufferSource} wasm bytes of pamr.wasm
   * @param {number} count of workers; below 2 the labels are made in the caller's thread
   * @returns {Promise<MaskWorkers>}
   */
  static async start(wasm, count) {
    if (count < 2) {
      const maker = new MaskMaker(await Pamr.load(wasm));
      return new MaskWorkers([async (part) => maker.make(part)], () => {});
    }
    const workers = await Promise.all(Array.from({ length: count }, () => startWorker(wasm)));
    const close = () => workers.forEach(({ worker }) => worker.terminate());
    return new MaskWorkers(
      workers.map((worker) => async (part) => worker.call({ part })),
      close,
    );
  }

  get count() {
    return this.#makes.length;
  }

  /**
   * Labels of a whole picture.
   * @param {Work} work
   * @returns {Promise<Uint16Array>}
   */
  async label(work) {
    if (work.refine) return this.#byClasses(work);
    const { width, height } = work.picture;
    const bands = width * height < SMALL ? 1 : this.count;
    const edges = Array.from({ length: bands + 1 }, (_, i) => Math.round((i * height) / bands));
    const made = await Promise.all(
      Array.from({ length: bands }, (_, i) => this.#makes[i]({ ...work, first: edges[i], last: edges[i + 1] })),
    );
    if (bands === 1) return made[0].labels;
    const labels = new Uint16Array(width * height);
    made.forEach((part, i) => labels.set(part.labels, width * edges[i]));
    return labels;
  }

  /** Each worker refines some of the classes, and the winners of all are compared. @param {Work} work */
  async #byClasses(work) {
    const { scores, grid, names, picture } = work;
    const patches = grid.width * grid.height;
    if (names.length === 0) return new Uint16Array(picture.width * picture.height); // background alone
    const share = TOGETHER * Math.ceil(names.length / TOGETHER / this.count);
    const groups = Math.ceil(names.length / share);
    const edges = Array.from({ length: groups + 1 }, (_, i) => Math.min(i * share, names.length));
    const made = await Promise.all(
      Array.from({ length: groups }, (_, i) => {
        const refine = { .../** @type {NonNullable<Part["refine"]>} */ (work.refine) };
        if (this.#known[i] === refine.image) refine.pixels = null;
        this.#known[i] = refine.image;
        return this.#makes[i]({
          ...work,
          scores: scores.slice(edges[i] * patches, edges[i + 1] * patches),
          names: names.slice(edges[i], edges[i + 1]),
          first: 0,
          last: picture.height,
          refine,
        }).catch((error) => {
          this.#known[i] = null;
          throw error;
        });
      }),
    );
    const [{ labels, best }, ...others] = made;
    for (const other of others) {
      for (let i = 0; i < labels.length; i++) {
        if (other.best[i] > best[i]) {
          best[i] = other.best[i];
          labels[i] = other.labels[i];
        }
      }
    }
    return labels;
  }

  /** End the workers. */
  close() {
    this.#close();
  }
}

/** A worker that is called: each call returns a promise. */
class CalledWorker {
  #waiting = new Map();
  #calls = 0;
  /** @type {Error | null} of the worker itself: no call is answered any more */
  #failure = null;
  #hold;

  /**
   * @param {any} worker of a page, or of node:worker_threads
   * @param {boolean} inPage
   */
  constructor(worker, inPage) {
    this.worker = worker;
    this.#hold = (/** @type {boolean} */ on) => inPage || (on ? worker.ref() : worker.unref()); // Node ends when idle
    this.#hold(false);
    const settle = (/** @type {any} */ answer) => this.#settle(answer);
    const fail = (/** @type {any} */ error) => this.#fail(error);
    if (!inPage) {
      worker.on("message", settle).on("error", fail);
      return;
    }
    worker.onmessage = (/** @type {MessageEvent} */ { data }) => settle(data);
    worker.onerror = fail;
  }

  /** @param {object} message @returns {Promise<any>} */
  call(message) {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = (this.#calls += 1);
    this.#hold(true);
    this.worker.postMessage({ id, ...message });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  /** @param {any} answer */
  #settle({ id, error, ...value }) {
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#hold(false);
    if (error) reject(new Error(error));
    else resolve(value);
  }

  /** @param {any} error */
  #fail(error) {
    this.#failure = new InputError(`a worker failed: ${error.message ?? "is mask-worker.js beside mask-workers.js?"}`);
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}

/** @param {BufferSource} wasm */
async function startWorker(wasm) {
  const inPage = typeof Worker === "function";
  let worker;
  if (inPage) {
    worker = new Worker(new URL("./mask-worker.js", import.meta.url), { type: "module" }); // as bundlers recognise it
  } else {
    const threads = await import(/* @vite-ignore */ `node:${"worker_threads"}`);
    worker = new threads.Worker(new URL("./mask-worker.js", import.meta.url));
  }
  const called = new CalledWorker(worker, inPage);
  await called.call({ wasm });
  return called;
}

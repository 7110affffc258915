// The server as the page's engine: a picture is sent once, and asked about again and again.

import { InputError } from "./errors.js";

/** Where the key is kept until the tab is closed. */
const KEY = "t2d-key";

export class ServerEngine {
  #key = sessionStorage.getItem(KEY) ?? "";
  #picture = null; // the last one's bytes
  #id = null; // a promise of its id

  /** @param {string} key */
  useKey(key) {
    this.#key = key;
    sessionStorage.setItem(KEY, key);
  }

  async open() {
    const info = await (await this.#call("GET", "info")).json();
    const facts = [
      ["Model", `${info.backbone}, ${info.precision}`],
      ["Engine", info.engine],
    ];
    return { threshold: info.defaults.threshold, facts };
  }

  /** @param {{image: ImageData, file: Blob, shrunk: boolean}} picture */
  async setPicture({ image, file, shrunk }) {
    this.forget();
    this.#picture = shrunk ? png(image) : Promise.resolve(file);
    await this.#send();
  }

  /** Let the server forget the picture. */
  forget() {
    const old = this.#id;
    this.#id = null;
    old?.then((id) => this.#call("DELETE", `images/${id}`)).catch(() => {}); // it may be gone already
  }

  /**
   * @param {import("./words.js").Chosen} chosen
   * @param {{background: boolean, threshold: number, refine: boolean}} options
   */
  async segment({ classes, negatives, thresholds }, { background, threshold, refine }) {
    const shown = background || negatives.length > 0;
    const names = [...(shown ? ["background"] : []), ...Object.keys(classes)];
    if (names.length > 256) {
      throw Object.assign(new InputError("at most 255 classes can be shown"), { about: "words" });
    }
    const question = { classes, negatives, background, refine, format: "grey" };
    if (background) Object.assign(question, { threshold, thresholds });
    const begun = performance.now();
    const labels = await this.#ask(question);
    return { ...labels, names, background: shown, milliseconds: performance.now() - begun };
  }

  async #ask(question) {
    const ask = async () => this.#call("POST", `images/${await this.#id}/segment`, JSON.stringify(question));
    let answer;
    try {
      answer = await ask();
    } catch (error) {
      if (error.status !== 404) throw error;
      await this.#send(); // dropped for newer pictures
      answer = await ask();
    }
    return labelsOf(await answer.blob());
  }

  #send() {
    const sent = this.#picture.then(async (picture) => {
      const answer = await this.#call("POST", "images", picture);
      return (await answer.json()).id;
    });
    this.#id = sent;
    return sent;
  }

  /** @param {string} method @param {string} address @param {string | Blob} [body] */
  async #call(method, address, body) {
    const headers = {};
    if (this.#key) headers.Authorization = `Bearer ${this.#key}`;
    if (typeof body === "string") headers["Content-Type"] = "application/json";
    else if (body) headers["Content-Type"] = body.type.startsWith("image/") ? body.type : "application/octet-stream";
    let answer;
    try {
      answer = await fetch(address, { method, headers, body, keepalive: method === "DELETE" });
    } catch {
      throw new InputError("the server does not answer; is it still running?");
    }
    if (answer.ok) return answer;
    const { detail } = await answer.json().catch(() => ({ detail: answer.statusText }));
    const about = { 401: "key", 422: "words" }[answer.status];
    throw Object.assign(new InputError(detail), { status: answer.status, about });
  }
}

/** Labels from a grey picture. @param {Blob} blob */
async function labelsOf(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const labels = new Uint8Array(width * height);
  for (let place = 0; place < labels.length; place++) labels[place] = data[4 * place];
  return { labels, width, height };
}

/** @param {ImageData} image */
function png(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

// The server as the page's engine: a picture is sent once, and asked about again and again.

import { InputError } from "./errors.js";
import { Server } from "./server.js";

export class ServerEngine {
  /** The name of the live source that the server shows; null for none. */
  live = null;
  #server = new Server();
  #picture = null; // the last one's bytes
  #id = null; // a promise of its id

  /** @param {string} key */
  useKey(key) {
    this.#server.useKey(key);
  }

  async open() {
    const info = await (await this.#server.call("GET", "info")).json();
    const facts = [
      ["Model", `${info.backbone}, ${info.precision}`],
      ["Engine", info.engine],
    ];
    this.live = info.live;
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
    old?.then((id) => this.#server.call("DELETE", `images/${id}`)).catch(() => {}); // it may be gone already
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
    const ask = async () => this.#server.call("POST", `images/${await this.#id}/segment`, JSON.stringify(question));
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
      const answer = await this.#server.call("POST", "images", picture);
      return (await answer.json()).id;
    });
    this.#id = sent;
    return sent;
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

// The page: takes a picture, asks an engine whenever something changes, and shows the masks.
//
// Two pages are made of it: that of `t2d serve`, whose engine is the server, and examples/web, whose engine is in the page.
// Words are an object with chosen(), null for none, and complain(message). What `chosen` returns goes to the engine.

import { Camera } from "./camera.js";
import { downloadLabels, downloadOverlay, drawMasks, drawPicture, labelAt, shares } from "./picture.js";

/**
 * @typedef {object} Engine
 * @property {boolean} [live] whether it is made for the frames of a camera
 * @property {() => Promise<{threshold: number, facts: [string, string][]}>} open gives the default threshold, and lines to
 *   show
 * @property {(picture: {image: ImageData, file?: Blob, shrunk?: boolean}) => Promise<void>} setPicture the picture to segment
 *   from now on; frames of a camera have no file
 * @property {(chosen: object, options: {background: boolean, threshold: number, refine: boolean}) => Promise<Segmentation>}
 *   segment
 *
 * @typedef {object} Segmentation
 * @property {Uint8Array | Uint16Array} labels of each pixel
 * @property {string[]} names of labels
 * @property {boolean} background whether label 0 is background
 * @property {number} width
 * @property {number} height
 * @property {number} milliseconds
 * @property {[string, string][]} [facts] more lines to show
 */

export class Page {
  #ready = false;
  #shown = null; // the picture's size
  #frame = null; // of the camera, which is shown with its masks
  #result = null;
  #running = null;
  #changed = false;

  /**
   * @param {Record<string, HTMLElement>} elements by their ids
   * @param {Engine} engine
   * @param {object} words
   * @param {Record<string, (file: File) => Promise<void>>} [takers] of files other than pictures, by their endings
   */
  constructor(elements, engine, words, takers = {}) {
    this.elements = elements;
    this.engine = engine;
    this.words = words;
    this.takers = takers;
    this.camera = new Camera(elements, this, engine.live === true);
    this.#listen();
  }

  /** Open the engine; a picture that was chosen meanwhile is then segmented. */
  async start() {
    const { threshold, facts } = await this.engine.open();
    this.elements.threshold.value = threshold;
    this.elements.thresholdValue.value = threshold;
    for (const [name, text] of facts) this.fact(name, text);
    this.elements.loading.hidden = true;
    this.#ready = true;
    await this.update();
  }

  /** @param {File} file a picture, or another file that the page takes */
  async take(file) {
    const ending = Object.keys(this.takers).find((name) => file.name.endsWith(name));
    if (ending) {
      await this.takers[ending](file);
      await this.update();
      return;
    }
    this.camera.stop();
    const { picture, masks, canvases, legend } = this.elements;
    const { image, original } = await drawPicture(picture, file);
    this.#shown = { width: image.width, height: image.height };
    this.#frame = null;
    masks.width = masks.height = 0;
    canvases.hidden = false;
    legend.hidden = true;
    this.#forget();
    const shrunk = original.width !== image.width;
    this.fact(
      "Picture",
      `${file.name}, ${size(original)}${shrunk ? `, shown and segmented at ${size(this.#shown)}` : ""}`,
    );
    await this.engine.setPicture({ image, file, shrunk });
    await this.update();
  }

  /** Segment a frame of the camera, and show both. @param {ImageData} image */
  async takeFrame(image) {
    const { canvases } = this.elements;
    if (canvases.hidden) this.#draw(image);
    canvases.hidden = false;
    this.#shown = { width: image.width, height: image.height };
    this.#frame = image;
    await this.engine.setPicture({ image });
    await this.update();
  }

  /** Segment the shown picture. Changes wait while that runs, and only the last of them counts. */
  async update() {
    this.#changed = true;
    if (this.#ready) await (this.#running ??= this.#run().finally(() => (this.#running = null)));
  }

  async #run() {
    while (this.#changed) {
      this.#changed = false;
      try {
        await this.#segment();
      } catch (error) {
        this.complain(error); // what changed meanwhile has its turn all the same
      }
    }
  }

  /** A line of the list of facts. */
  fact(name, text) {
    const { facts } = this.elements;
    let value = facts.querySelector(`[data-name="${name}"]`);
    if (!value) {
      value = document.createElement("dd");
      value.dataset.name = name;
      facts.append(Object.assign(document.createElement("dt"), { textContent: name }), value);
    }
    value.textContent = text;
  }

  /** Show an error: beside the words where it is about them, else above the picture. */
  complain(error) {
    const { error: shown, status } = this.elements;
    status.textContent = "";
    if (error.about === "words") {
      this.words.complain(error.message);
      return;
    }
    this.camera.stop();
    shown.textContent = error.message;
    shown.hidden = false;
    if (error.name !== "InputError") throw error;
  }

  async #segment() {
    const { status, masks, legend, canvases } = this.elements;
    const chosen = this.words.chosen();
    if (!this.#shown || !chosen) {
      status.textContent = this.#shown ? this.words.wanted : "Ready for a picture.";
      if (this.#frame) this.#draw(this.#frame);
      masks.width = masks.height = 0;
      legend.hidden = true;
      this.#forget();
      return;
    }
    const options = {
      background: this.elements.background.checked,
      threshold: this.elements.threshold.valueAsNumber,
      refine: this.elements.refine.checked,
    };
    if (!this.camera.on) status.textContent = "Segmenting …";
    canvases.ariaBusy = "true";
    const asked = this.#shown;
    try {
      const result = await this.engine.segment(chosen, options);
      if (this.#shown === asked) this.#show(result, options); // else another picture is there, and its turn comes
    } finally {
      canvases.ariaBusy = "false";
    }
  }

  #show(result, options) {
    const { error, masks, legend, canvases, status, downloads } = this.elements;
    this.#result = result;
    error.hidden = true;
    this.words.complain("");
    if (this.#frame) this.#draw(this.#frame);
    drawMasks(masks, result);
    const present = shares(result);
    legend.replaceChildren(...present.map(legendEntry));
    legend.hidden = downloads.hidden = false;
    canvases.ariaLabel = `The picture with the masks of ${present.map(({ name }) => name).join(", ")}`;
    status.textContent = this.camera.on ? this.camera.rate() : `Segmented in ${seconds(result.milliseconds)}.`;
    for (const [name, text] of result.facts ?? []) this.fact(name, text);
    // For pages that build on this one, and for tests.
    document.dispatchEvent(new CustomEvent("segmentation", { detail: { ...options, ...result } }));
  }

  /** @param {ImageData} image */
  #draw(image) {
    const { picture } = this.elements;
    if (picture.width !== image.width || picture.height !== image.height) {
      picture.width = image.width;
      picture.height = image.height;
    }
    picture.getContext("2d").putImageData(image, 0, 0);
  }

  #forget() {
    this.#result = null;
    this.elements.downloads.hidden = true;
    this.elements.named.hidden = true;
  }

  /** @param {Iterable<File>} files */
  takeAll(files) {
    this.elements.error.hidden = true;
    for (const file of files) this.take(file).catch((error) => this.complain(error));
  }

  /** Name the pixel under the pointer. @param {PointerEvent} event */
  #name(event) {
    const { named, masks, canvases } = this.elements;
    const name = this.#result && labelAt(masks, this.#result, event.clientX, event.clientY);
    named.hidden = name === null;
    if (name === null) return;
    const place = canvases.getBoundingClientRect();
    named.textContent = name;
    named.style.left = `${event.clientX - place.left}px`;
    named.style.top = `${event.clientY - place.top}px`;
  }

  #listen() {
    const { elements } = this;
    elements.controls.addEventListener("submit", (event) => event.preventDefault());
    elements.background.addEventListener("change", () => {
      elements.threshold.disabled = !elements.background.checked;
      this.update();
    });
    elements.refine.addEventListener("change", () => this.update());
    elements.threshold.addEventListener("input", () => {
      elements.thresholdValue.value = elements.threshold.value;
      this.update();
    });
    elements.opacity.addEventListener("input", () =>
      elements.masks.style.setProperty("--mask-opacity", elements.opacity.value),
    );
    elements.file.addEventListener("change", () => {
      this.takeAll(elements.file.files);
      elements.file.value = ""; // the same file may be chosen again
    });
    elements.canvases.addEventListener("pointermove", (event) => this.#name(event));
    elements.canvases.addEventListener("pointerleave", () => (elements.named.hidden = true));
    elements.overlay.addEventListener("click", () =>
      downloadOverlay(elements.picture, elements.masks, elements.opacity.valueAsNumber),
    );
    elements.labels.addEventListener("click", () => downloadLabels(this.#result));
    this.#listenToTheDocument();
  }

  #listenToTheDocument() {
    for (const kind of ["dragover", "dragleave", "drop"]) {
      addEventListener(kind, (event) => {
        event.preventDefault();
        document.body.classList.toggle("dragging", kind === "dragover");
      });
    }
    addEventListener("drop", ({ dataTransfer }) => this.takeAll(dataTransfer.files));
    addEventListener("paste", ({ clipboardData }) => this.takeAll(clipboardData?.files ?? []));
  }
}

export function legendEntry({ name, share, colour }) {
  const entry = document.createElement("li");
  const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
  swatch.style.background = `rgb(${colour})`;
  const percent = share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`;
  entry.append(
    swatch,
    name,
    Object.assign(document.createElement("span"), { className: "share", textContent: percent }),
  );
  return entry;
}

const size = ({ width, height }) => `${width} × ${height} pixels`;

/** A time to read. @param {number} milliseconds */
export const seconds = (milliseconds) =>
  milliseconds < 1000 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

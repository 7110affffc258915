// The camera: live, where the engine is made for it; else one picture at a time.

import { InputError } from "./errors.js";

const RATED = 20; // frames that the shown rate is the mean of

export class Camera {
  /** Whether frames are being taken. */
  on = false;
  #times = [];

  /**
   * @param {Record<string, HTMLElement>} elements camera, nocamera, shutter, video, snap, cancel
   * @param {import("./page.js").Page} page
   * @param {boolean} live
   */
  constructor(elements, page, live) {
    this.elements = elements;
    this.page = page;
    this.live = live;
    const { camera, nocamera, shutter, snap, cancel } = elements;
    camera.hidden = !navigator.mediaDevices?.getUserMedia;
    nocamera.hidden = isSecureContext;
    camera.addEventListener("click", () => (this.on ? this.stop() : this.#start()));
    shutter.addEventListener("close", () => this.#release());
    cancel.addEventListener("click", () => shutter.close());
    snap.addEventListener("click", () => this.#snap());
  }

  /** End the frames; the last one stays. */
  stop() {
    if (!this.on) return;
    this.on = false;
    this.elements.camera.textContent = "Use the camera";
    this.#release();
  }

  /** How many frames a second there are, to read. */
  rate() {
    this.#times = [...this.#times, performance.now()].slice(-RATED - 1);
    if (this.#times.length < 2) return "The camera is on.";
    const a_second = (1000 * (this.#times.length - 1)) / (this.#times.at(-1) - this.#times[0]);
    return `The camera is on: ${a_second.toFixed(1)} frames a second.`;
  }

  async #start() {
    const { camera, shutter, video, error } = this.elements;
    error.hidden = true;
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (problem) {
      this.page.complain(new InputError(`the camera cannot be used: ${problem.message}`));
      return;
    }
    if (!this.live) {
      shutter.showModal();
      return;
    }
    this.on = true;
    this.#times = [];
    camera.textContent = "Stop the camera";
    this.#run().catch((problem) => {
      this.stop();
      this.page.complain(problem);
    });
  }

  /** One frame after another, each as soon as the one before has its masks. */
  async #run() {
    const { video } = this.elements;
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
      await new Promise((resolve) => video.addEventListener("loadeddata", resolve, { once: true }));
    }
    await video.play();
    while (this.on) {
      const frame = new OffscreenCanvas(video.videoWidth, video.videoHeight);
      const context = frame.getContext("2d", { willReadFrequently: true });
      context.drawImage(video, 0, 0);
      this.page.fact("Picture", `the camera, ${frame.width} × ${frame.height} pixels`);
      await this.page.takeFrame(context.getImageData(0, 0, frame.width, frame.height));
      await new Promise(requestAnimationFrame); // the page stays live, and a hidden one rests
    }
  }

  #release() {
    const { video } = this.elements;
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  }

  async #snap() {
    const { shutter, video } = this.elements;
    const frame = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    frame.getContext("2d").drawImage(video, 0, 0);
    shutter.close();
    this.page.takeAll([new File([await frame.convertToBlob()], "camera.png", { type: "image/png" })]);
  }
}

// A worker that makes labels: `MaskMaker` in a thread of its own, in a page or in Node.js.

import { MaskMaker } from "./masks.js";
import { Pamr } from "./pamr.js";

const inNode = typeof process === "object" && process.versions?.node !== undefined;
const port = inNode ? (await import(/* @vite-ignore */ `node:${"worker_threads"}`)).parentPort : globalThis;
/** @type {MaskMaker} */
let maker;

/** @param {any} message */
async function answer({ id, wasm, part }) {
  try {
    if (wasm) maker = new MaskMaker(await Pamr.load(wasm));
    if (!part) return port.postMessage({ id });
    const { labels, best } = maker.make(part);
    port.postMessage({ id, labels, best }, [labels.buffer, best.buffer]);
  } catch (error) {
    port.postMessage({ id, error: String(/** @type {any} */ (error).message ?? error) });
  }
}

if (inNode) port.on("message", answer);
else port.onmessage = (/** @type {MessageEvent} */ { data }) => answer(data);

// A worker that makes labels: `MaskMaker` in a thread of its own, in a page or in Node.js.

import { MaskMaker } from "./masks.js";
import { Pamr } from "./pamr.js";

/** @type {MaskMaker} */
let maker;

/** @param {any} message @param {(answer: any, moved?: Transferable[]) => void} reply */
async function answer({ id, wasm, part }, reply) {
  try {
    if (wasm) maker = new MaskMaker(await Pamr.load(wasm));
    if (!part) return reply({ id });
    const { labels, best } = maker.make(part);
    reply({ id, labels, best }, [labels.buffer, best.buffer]);
  } catch (error) {
    reply({ id, error: String(/** @type {any} */ (error).message ?? error) });
  }
}

if (typeof process === "object" && process.versions?.node !== undefined) {
  import(/* @vite-ignore */ `node:${"worker_threads"}`).then(({ parentPort: port }) => {
    port.on("message", (/** @type {any} */ message) => answer(message, port.postMessage.bind(port)));
  });
} else {
  // At once: some browsers drop what comes while a module waits.
  onmessage = ({ data }) => answer(data, /** @type {any} */ (postMessage));
}

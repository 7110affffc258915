// Refines what a file holds with examples/web/t2d/pamr.js: height, width, classes, iterations, number of dilations and these
// (int32), then the image (RGB) and the planes (float32); writes the refined planes, and prints what pamr.wasm is built of.
import { readFileSync, writeFileSync } from "node:fs";
import { Pamr } from "../../examples/web/t2d/pamr.js";

const [wasm, ...pairs] = process.argv.slice(2);
const pamr = await Pamr.load(readFileSync(wasm));
for (let i = 0; i < pairs.length; i += 2) {
  const bytes = new Uint8Array(readFileSync(pairs[i]));
  const [height, width, classes, iterations, count] = new Int32Array(bytes.buffer, 0, 5);
  const dilations = [...new Int32Array(bytes.buffer, 20, count)];
  const start = 20 + 4 * count;
  const image = bytes.subarray(start, start + 3 * height * width);
  const planes = new Float32Array(bytes.slice(start + image.length).buffer, 0, classes * height * width);
  writeFileSync(pairs[i + 1], pamr.refine(image, planes, { height, width, dilations, iterations }));
}
console.log(pamr.source);
for (const wrong of [{ height: 2 }, { planes: new Float32Array(5) }, { dilations: [0] }, { iterations: 1.5 }]) {
  const { planes, ...options } = { planes: new Float32Array(4), height: 1, width: 4, ...wrong };
  try {
    pamr.refine(new Uint8Array(12), planes, options);
  } catch (error) {
    console.log(`${error.constructor.name}: ${error.message}`);
  }
}

// Copies the files of onnxruntime-web that the page loads beside it: pages cannot import from node_modules.
// Two are for WebAssembly, two for WebGPU; the page loads one pair.

import { copyFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const page = dirname(fileURLToPath(import.meta.url));
const source = join(page, "node_modules", "onnxruntime-web", "dist");
const target = join(page, "onnxruntime");

mkdirSync(target, { recursive: true });
for (const file of [
  "ort.wasm.bundle.min.mjs",
  "ort-wasm-simd-threaded.wasm",
  "ort.webgpu.bundle.min.mjs",
  "ort-wasm-simd-threaded.asyncify.wasm",
]) {
  copyFileSync(join(source, file), join(target, file));
}

// Copies the files of packages that the page loads beside it: pages cannot import from node_modules. Of onnxruntime-web two
// are for WebAssembly, two for WebGPU; the page loads one pair. The tokenizer comes with the text encoder.

import { copyFileSync, mkdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const page = dirname(fileURLToPath(import.meta.url));
const target = join(page, "onnxruntime");

mkdirSync(target, { recursive: true });
for (const file of [
  "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
  "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
  "onnxruntime-web/dist/ort.webgpu.bundle.min.mjs",
  "onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm",
  "@huggingface/tokenizers/dist/tokenizers.min.mjs",
]) {
  copyFileSync(join(page, "node_modules", file), join(target, basename(file)));
}

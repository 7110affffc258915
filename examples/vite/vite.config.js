import { defineConfig } from "vite";

// Pages share memory between threads only where the server isolates them from other sites.
const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export default defineConfig({
  base: "./", // the built site works in any folder of a host
  worker: { format: "es" },
  build: { target: "es2022" },
  optimizeDeps: { exclude: ["onnxruntime-web", "t2d"] }, // they find files beside themselves
  server: { headers },
  preview: { headers },
});

// A bundle's graph in ONNX Runtime: its files, read with one count of their bytes, and its session.

import { readCached } from "./file-cache.js";

/**
 * Read files of a bundle at the same time.
 * @param {import("./bundle.js").Bundle} bundle
 * @param {string[]} paths within the bundle
 * @param {object} options
 * @param {(progress: {loaded: number, total: number}) => void} [options.progress] bytes of all files
 * @param {AbortSignal} [options.signal] gives the reading up
 * @param {(reason: string) => void} [options.uncached] told why the browser keeps no copy of a file
 * @returns {Promise<Uint8Array[]>}
 */
export function readFiles(bundle, paths, { progress, signal, uncached }) {
  const total = paths.reduce((sum, path) => sum + bundle.manifest.files[path].bytes, 0);
  let loaded = 0;
  const count = (/** @type {number} */ bytes) => progress?.({ loaded: (loaded += bytes), total });
  return Promise.all(paths.map((path) => readCached(bundle, path, { progress: count, signal, uncached })));
}

/**
 * A session of a graph: of its file on disk where it has one, else of its bytes.
 * @param {any} ort
 * @param {import("./bundle.js").Source} source
 * @param {string[]} paths of the graph, and of its weights where they have a file
 * @param {Uint8Array[]} files of these paths
 * @param {string} precision
 * @param {object} session more options
 * @returns {Promise<any>}
 */
export function createSession(ort, source, paths, files, precision, session) {
  const options = { ...optionsOf(precision), ...session };
  if (source.locate) return ort.InferenceSession.create(source.locate(paths[0]), options);
  const externalData = files.slice(1).map((data, index) => ({ path: paths[index + 1].split("/").pop(), data }));
  return ort.InferenceSession.create(files[0], { ...options, externalData });
}

/**
 * Session options of a precision. int8 needs one to stay int8, and one to be precise.
 *
 * ONNX Runtime would turn a quantised product and its bias into a float one. On processors without VNNI it adds two byte
 * products in 16 bits, which saturate, unless it is asked to be precise.
 * @param {string} precision
 */
function optionsOf(precision) {
  if (precision !== "int8") return {};
  const optimization = { disable_specified_optimizers: "MatMulAddFusion" };
  return { extra: { optimization, session: { x64quantprecision: "1" } } };
}

// The graph segmenter.onnx as a function of a picture and words. docs/segmenter-graph.md describes inputs and outputs.

import { InputError } from "./errors.js";
import { NEGATIVE } from "./vocabulary.js";

/**
 * @typedef {object} Options
 * @property {boolean} [background] label 0 where no word exceeds the threshold, with cleaning, as in the runtime
 * @property {number} [threshold] 0 to 1; default: the bundle's
 * @property {boolean} [refine] PAMR
 *
 * @typedef {object} Segmentation
 * @property {Uint8Array | Uint16Array} labels height x width, row after row
 * @property {string[]} names label -> word; "background" first where there is one
 * @property {boolean} background whether label 0 is background: asked for, or because of negatives
 */

/** One graph on one engine: onnxruntime-node, or onnxruntime-web. */
export class Segmenter {
  /**
   * @param {typeof import("onnxruntime-common")} ort
   * @param {import("onnxruntime-common").InferenceSession} session
   * @param {import("./manifest.js").Manifest} manifest
   */
  constructor(ort, session, manifest) {
    this.ort = ort;
    this.session = session;
    this.manifest = manifest;
  }

  /**
   * @param {{pixels: Uint8Array, width: number, height: number}} picture RGB, row after row
   * @param {import("./vocabulary.js").Vocabulary} words
   * @param {Options} options
   * @returns {Promise<Segmentation>}
   */
  async segment(picture, words, { background = false, threshold = this.manifest.threshold, refine = false } = {}) {
    if (!(threshold >= 0 && threshold <= 1)) throw new InputError(`the threshold is ${threshold}, expected 0 to 1`);
    const { Tensor } = this.ort;
    const scalar = (value) => new Tensor("float32", [value], []);
    const iterations = refine ? this.manifest.pamrIterations : 0;
    const above = rowThresholds(words, background, threshold);
    const outputs = await this.session.run(
      {
        image: new Tensor("uint8", picture.pixels, [1, picture.height, picture.width, 3]),
        text_embeds: new Tensor("float32", words.vectors, [above.length, words.width]),
        ...this.#thresholds(above),
        cleaning_weight: scalar(background ? this.manifest.cleaningWeight : 0),
        pamr_iterations: new Tensor("int64", [BigInt(iterations)], []),
      },
      ["label_map"],
    );
    // A class has the pixels of all its phrases, and background those of negatives.
    const shown = background || words.classIndices.includes(NEGATIVE);
    const names = shown ? ["background", ...words.names] : words.names;
    const table = [0, ...words.classIndices.map((index) => (index === NEGATIVE ? 0 : index + (shown ? 1 : 0)))];
    const labels =
      names.length <= 256 ? new Uint8Array(outputs.label_map.size) : new Uint16Array(outputs.label_map.size);
    // In the graph's labels 0 is always background, and 1 the first row.
    outputs.label_map.data.forEach((label, index) => {
      labels[index] = table[label];
    });
    outputs.label_map.dispose();
    return { labels, names, background: shown };
  }

  /**
   * The graph's input: a threshold for each row, or one for all in graphs of older bundles.
   * @param {Float32Array} above
   */
  #thresholds(above) {
    const { Tensor } = this.ort;
    if (this.session.inputNames.includes("thresholds")) {
      return { thresholds: new Tensor("float32", above, [above.length]) };
    }
    if (above.some((value) => value !== above[0])) {
      throw new InputError(
        "this bundle's graph has one threshold for all words; export it again with 't2d-export bundle --fused'",
      );
    }
    return { threshold: new Tensor("float32", above.slice(0, 1), []) };
  }
}

/**
 * The threshold of each row: its class's own, or the one of all.
 * @param {import("./vocabulary.js").Vocabulary} words
 * @param {boolean} background
 * @param {number} threshold
 * @returns {Float32Array}
 */
function rowThresholds({ names, classIndices, thresholds }, background, threshold) {
  if (!background && Object.keys(thresholds).length > 0) {
    throw new InputError(`the thresholds of ${Object.keys(thresholds).join(", ")} have no effect without background`);
  }
  const none = -1; // below every score: no background
  return Float32Array.from(classIndices, (index) => (background ? (thresholds[names[index]] ?? threshold) : none));
}

/**
 * Session options of a precision. int8 needs one to stay int8.
 *
 * ONNX Runtime would turn a quantised product and its bias into a float one.
 * @param {string} precision
 */
export function sessionOptions(precision) {
  if (precision !== "int8") return {};
  return { extra: { optimization: { disable_specified_optimizers: "MatMulAddFusion" } } };
}

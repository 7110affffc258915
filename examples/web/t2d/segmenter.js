// The graph segmenter.onnx as a function of a picture and words. docs/segmenter-graph.md describes inputs and outputs.

import { InputError } from "./errors.js";

/**
 * @typedef {object} Options
 * @property {boolean} [background] label 0 where no word exceeds the threshold, with cleaning, as in the runtime
 * @property {number} [threshold] 0 to 1; default: the bundle's
 * @property {boolean} [refine] PAMR
 *
 * @typedef {object} Segmentation
 * @property {Uint8Array | Uint16Array} labels height x width, row after row
 * @property {string[]} names label -> word; "background" first where there is one
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
    const outputs = await this.session.run(
      {
        image: new Tensor("uint8", picture.pixels, [1, picture.height, picture.width, 3]),
        text_embeds: new Tensor("float32", words.vectors, [words.names.length, words.width]),
        threshold: scalar(background ? threshold : -1), // below 0: no background
        cleaning_weight: scalar(background ? this.manifest.cleaningWeight : 0),
        pamr_iterations: new Tensor("int64", [BigInt(iterations)], []),
      },
      ["label_map"],
    );
    const names = background ? ["background", ...words.names] : words.names;
    const labels =
      names.length <= 256 ? new Uint8Array(outputs.label_map.size) : new Uint16Array(outputs.label_map.size);
    // In the graph's labels 0 is always background.
    const first = background ? 0 : 1;
    outputs.label_map.data.forEach((label, index) => {
      labels[index] = label - first;
    });
    outputs.label_map.dispose();
    return { labels, names };
  }
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

// Labels of a part of the work: some classes refined, or some rows of the picture. Runs in a worker, or where it is called.

import { chainTaps, labelPlanes, labelResized, linearTaps, upsample } from "./planes.js";
import { Pamr } from "./pamr.js";

/** Classes refined at a time: in WebAssembly as fast, class for class, as the loops' most, and it wastes none. */
const CHUNK = 8;

/**
 * @typedef {import("./planes.js").Size} Size
 *
 * @typedef {object} Part
 * @property {Float32Array} scores of patches, a plane for each label
 * @property {Size} grid the patches' number, across and down
 * @property {Uint16Array} names the label of each plane
 * @property {Size} working the size at which the picture is segmented
 * @property {Size} picture the picture's own
 * @property {number} first @property {number} last rows of the picture
 * @property {number} threshold that a score must exceed; -Infinity for none
 * @property {{iterations: number, dilations: number[], image: number, pixels: Uint8Array | null} | null} refine PAMR, by
 *   the colours of the picture at the working size; null where they are those of the last call, whose number `image` is
 */

/** Makes labels. Keeps the weights of the last refined picture. */
export class MaskMaker {
  /** @param {Pamr | null} pamr needed to refine */
  constructor(pamr) {
    this.pamr = pamr;
    /** @type {number | null} */
    this.image = null;
  }

  /**
   * @param {Part} part
   * @returns {import("./planes.js").Result} labels and best scores of the rows
   */
  make(part) {
    const { names, picture, first, last, threshold, refine } = part;
    const pixels = (last - first) * picture.width;
    const result = { labels: new Uint16Array(pixels), best: new Float32Array(pixels).fill(threshold) };
    if (names.length === 0) return result;
    if (refine) this.#refined(part, refine, result);
    else enlarged(part, result);
    return result;
  }

  /** @param {Part} part @param {NonNullable<Part["refine"]>} refine @param {import("./planes.js").Result} result */
  #refined({ scores, grid, names, working, picture, first, last, threshold }, refine, result) {
    const pamr = /** @type {Pamr} */ (this.pamr);
    if (this.image !== refine.image) {
      if (!refine.pixels) throw new Error("the picture that refines the masks was lost; segment again");
      this.image = null; // nothing is prepared where this fails
      pamr.prepare(refine.pixels, { ...working, dilations: refine.dilations });
      this.image = refine.image;
    }
    const patches = grid.width * grid.height;
    const size = working.width * working.height;
    const [rows, columns] = /** @type {const} */ (["height", "width"]).map((side) =>
      linearTaps(working[side], picture[side], false),
    );
    for (let start = 0; start < names.length; start += CHUNK) {
      const count = Math.min(CHUNK, names.length - start);
      const planes = pamr.spread(count, refine.iterations, (plain) => {
        for (let n = 0; n < count; n++) {
          const plane = scores.subarray((start + n) * patches, (start + n + 1) * patches);
          upsample(plane, grid, plain.subarray(n * size, (n + 1) * size), working);
        }
      });
      const layers = { planes, size: working, names: names.subarray(start, start + count), threshold };
      const same = working.width === picture.width && working.height === picture.height;
      if (same) labelPlanes(layers, result);
      else labelResized(layers, rows, columns, first, last, result);
    }
  }
}

/** @param {Part} part @param {import("./planes.js").Result} result */
function enlarged({ scores, grid, names, working, picture, first, last, threshold }, result) {
  const [rows, columns] = /** @type {const} */ (["height", "width"]).map((side) => {
    const taps = linearTaps(grid[side], working[side], true);
    return working[side] === picture[side] ? taps : chainTaps(taps, linearTaps(working[side], picture[side], false));
  });
  labelResized({ planes: scores, size: grid, names, threshold }, rows, columns, first, last, result);
}

// PAMR, pixel-adaptive mask refinement, in WebAssembly: pamr.wasm is t2d_runtime/masks/pamr/pamr.c, built by scripts/wasm.
// Needs no engine and no graph. docs/pamr.md describes the memory that its functions share.

import { InputError } from "./errors.js";

const FLOAT = 4;
const BLOCK = 16; // pixels of a block of weights
const MAX_PLANES = 8; // more classes than these are a sheet
const PAGE = 65536;

/** Most classes refined at a time: those of a sheet. */
export const MOST_CLASSES = 16;

const PUBLISHED = { dilations: [1, 2, 4, 8, 12, 24], iterations: 10 };

/**
 * @typedef {{height: number, width: number, dilations: number[], grid: number, weights: number, end: number}} Prepared an
 *   image: its size, and the addresses of its grid, of its weights, and of what is free above them
 */

/** The inner loops, with their own memory, which grows with the largest picture. They serve one caller at a time. */
export class Pamr {
  /** @type {Prepared | null} */
  #prepared = null;

  /** @param {WebAssembly.Instance} instance of pamr.wasm */
  constructor(instance) {
    /** @type {any} */
    this.loops = instance.exports;
  }

  /**
   * Compile pamr.wasm.
   * @param {BufferSource | Response | Promise<Response>} wasm its bytes, or the response of fetch("t2d/pamr.wasm")
   * @returns {Promise<Pamr>}
   */
  static async load(wasm) {
    const response = await wasm;
    const bytes = response instanceof Response ? await response.arrayBuffer() : response;
    return new Pamr((await WebAssembly.instantiate(bytes)).instance);
  }

  /** The sha256 of the pamr.c from which pamr.wasm was built. */
  get source() {
    const text = new Uint8Array(this.loops.memory.buffer, this.loops.pamr_source(), 64);
    return new TextDecoder().decode(text);
  }

  /**
   * Refine scores. Each class is refined by itself.
   * @param {Uint8Array | Uint8ClampedArray} image RGB, height x width x 3
   * @param {Float32Array} planes scores at the image's size, classes x height x width
   * @param {{height: number, width: number, dilations?: number[], iterations?: number}} options
   * @returns {Float32Array} as planes
   */
  refine(image, planes, { height, width, ...settings }) {
    const { dilations, iterations } = { ...PUBLISHED, ...settings };
    check({ image, planes, height, width, dilations, iterations });
    const size = height * width;
    const classes = planes.length / size;
    this.prepare(image, { height, width, dilations });
    const refined = new Float32Array(planes.length);
    for (let first = 0; first < classes; first += MOST_CLASSES) {
      const count = Math.min(MOST_CLASSES, classes - first);
      const part = planes.subarray(first * size, (first + count) * size);
      refined.set(
        this.spread(count, iterations, (plain) => plain.set(part)),
        first * size,
      );
    }
    return refined;
  }

  /**
   * Weigh the pixels' neighbours of an image. Planes are then refined by it until another one comes.
   * @param {Uint8Array | Uint8ClampedArray} image RGB, height x width x 3
   * @param {{height: number, width: number, dilations?: number[]}} options
   */
  prepare(image, { height, width, dilations = PUBLISHED.dilations }) {
    check({ image, planes: new Float32Array(height * width), height, width, dilations, iterations: 0 });
    const room = new Room(this.loops, this.loops.__heap_base.value);
    const grid = room.take(5 + dilations.length);
    const weights = room.take(height * rounded(width) * 8 * dilations.length);
    this.#prepared = { height, width, dilations, grid, weights, end: room.end };
    const { source, plain } = this.#arrays(3);
    const size = height * width;
    const border = Math.max(...dilations);
    const { buffer } = this.loops.memory;
    new Int32Array(buffer, grid).set([height, width, border, dilations.length, grid + 5 * FLOAT, ...dilations]);
    const colours = new Float32Array(buffer, plain, 3 * size);
    for (let i = 0; i < size; i++) for (let c = 0; c < 3; c++) colours[c * size + i] = image[3 * i + c];
    this.loops.pamr_put(grid, 3, plain, source, 0, height);
    this.loops.pamr_weigh(0, grid, source, weights, 0, height);
  }

  /**
   * Refine some planes by the prepared image.
   * @param {number} count of planes, at most MOST_CLASSES
   * @param {number} iterations
   * @param {(planes: Float32Array) => void} fill writes the planes, one after the other
   * @returns {Float32Array} refined; in the loops' memory, until the next call
   */
  spread(count, iterations, fill) {
    if (this.#prepared === null) throw new InputError("no image is prepared; call prepare first");
    const { grid, weights, height, width } = this.#prepared;
    let { source, target, plain } = this.#arrays(count);
    fill(new Float32Array(this.loops.memory.buffer, plain, count * height * width));
    this.loops.pamr_put(grid, count, plain, source, 0, height);
    for (let i = 0; i < iterations; i++) {
      this.loops.pamr_spread(0, grid, count, source, weights, target, 0, height);
      [source, target] = [target, source];
    }
    this.loops.pamr_take(grid, count, source, plain, 0, height);
    return new Float32Array(this.loops.memory.buffer, plain, count * height * width);
  }

  /** Addresses of two padded arrays and of plain planes, above the weights. @param {number} count of planes */
  #arrays(count) {
    const { height, width, dilations, end } = /** @type {Prepared} */ (this.#prepared);
    const row = rounded(width) + 2 * Math.max(...dilations);
    const lanes = count > MAX_PLANES ? MOST_CLASSES : count;
    const room = new Room(this.loops, end);
    const [source, target] = [room.take(height * row * lanes), room.take(height * row * lanes)];
    const plain = room.take(height * width * count);
    room.grow();
    return { source, target, plain };
  }
}

/** @param {number} width */
function rounded(width) {
  return Math.ceil(width / BLOCK) * BLOCK;
}

/** Gives out addresses in the loops' memory, above their own data. */
class Room {
  /** @param {any} loops @param {number} start */
  constructor(loops, start) {
    this.memory = loops.memory;
    this.end = start;
  }

  /** The address of `count` numbers of four bytes, at a multiple of 64. @param {number} count */
  take(count) {
    const address = Math.ceil(this.end / 64) * 64;
    this.end = address + count * FLOAT;
    return address;
  }

  grow() {
    const missing = this.end - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE));
  }
}

/**
 * @param {{image: Uint8Array | Uint8ClampedArray, planes: Float32Array, height: number, width: number,
 *   dilations: number[], iterations: number}} given
 */
function check({ image, planes, height, width, dilations, iterations }) {
  const whole = (/** @type {number} */ value, /** @type {number} */ least) => Number.isInteger(value) && value >= least;
  if (!whole(height, 1) || !whole(width, 1) || image.length !== 3 * height * width) {
    throw new InputError(`the image has ${image.length} bytes, expected ${height} x ${width} x 3`);
  }
  if (!(planes instanceof Float32Array) || !planes.length || planes.length % (height * width)) {
    throw new InputError(`expected a Float32Array of planes of ${height} x ${width}, got ${planes.length} numbers`);
  }
  const possible = dilations.length >= 1 && dilations.length <= 32 && dilations.every((d) => whole(d, 1) && d < 1e6);
  if (!possible || !whole(iterations, 0)) {
    throw new InputError(
      `dilations are ${dilations} and iterations ${iterations}, expected 1 to 32 whole numbers from 1, and one from 0`,
    );
  }
}

// PAMR, pixel-adaptive mask refinement, in WebAssembly: pamr.wasm is t2d_runtime/masks/pamr/pamr.c, built by scripts/wasm.
// Needs no engine and no graph. docs/pamr.md describes the memory that its functions share.

import { InputError } from "./errors.js";

const FLOAT = 4;
const BLOCK = 16; // classes of a sheet, and pixels of a block of weights
const MAX_PLANES = 8; // more classes than these are a sheet
const PAGE = 65536;

const PUBLISHED = { dilations: [1, 2, 4, 8, 12, 24], iterations: 10 };

/** The inner loops, with their own memory, which grows with the largest picture. They serve one caller at a time. */
export class Pamr {
  /** @param {WebAssembly.Instance} instance of pamr.wasm */
  constructor(instance) {
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
    const size = height * width;
    check({ image, planes, height, width, dilations, iterations });
    const border = Math.max(...dilations);
    const rounded = Math.ceil(width / BLOCK) * BLOCK;
    const row = rounded + 2 * border;
    const classes = planes.length / size;
    const lanes = classes > MAX_PLANES ? BLOCK : Math.max(classes, 3);

    // In this order: the grid, its dilations, weights, two padded arrays, and plain planes.
    const room = new Room(this.loops);
    const grid = room.take(5 + dilations.length);
    const weights = room.take(height * rounded * 8 * dilations.length);
    let [source, target] = [room.take(height * row * lanes), room.take(height * row * lanes)];
    const plain = room.take(size * Math.max(Math.min(classes, BLOCK), 3));
    room.grow();

    const { buffer } = this.loops.memory;
    new Int32Array(buffer, grid).set([height, width, border, dilations.length, grid + 5 * FLOAT, ...dilations]);
    const floats = new Float32Array(buffer, plain);
    for (let i = 0; i < size; i++) for (let c = 0; c < 3; c++) floats[c * size + i] = image[3 * i + c];
    this.loops.pamr_put(grid, 3, plain, source, 0, height);
    this.loops.pamr_weigh(0, grid, source, weights, 0, height);

    const refined = new Float32Array(planes.length);
    for (let first = 0; first < classes; first += BLOCK) {
      const count = Math.min(BLOCK, classes - first);
      floats.set(planes.subarray(first * size, (first + count) * size));
      this.loops.pamr_put(grid, count, plain, source, 0, height);
      for (let i = 0; i < iterations; i++) {
        this.loops.pamr_spread(0, grid, count, source, weights, target, 0, height);
        [source, target] = [target, source];
      }
      this.loops.pamr_take(grid, count, source, plain, 0, height);
      refined.set(floats.subarray(0, count * size), first * size);
    }
    return refined;
  }
}

/** Gives out addresses in the loops' memory, above their own data. */
class Room {
  constructor(loops) {
    this.memory = loops.memory;
    this.end = loops.__heap_base.value;
  }

  /** The address of `count` numbers of four bytes, at a multiple of 64. */
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

function check({ image, planes, height, width, dilations, iterations }) {
  const whole = (value, least) => Number.isInteger(value) && value >= least;
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

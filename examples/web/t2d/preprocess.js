// From a picture to the pixel values that the image encoder takes, with the arithmetic of t2d_runtime/image/preprocess.py.

/**
 * @typedef {object} Picture
 * @property {Uint8Array | Uint8ClampedArray} pixels RGB, height x width x 3, row after row
 * @property {number} width
 * @property {number} height
 */

const RESIZE_BITS = 11; // fractional bits of OpenCV's fixed-point weights
const f = Math.fround;

/**
 * Size at which a picture is segmented: the short side as the bundle says, unless the long side would be too long.
 * @param {{width: number, height: number}} picture
 * @param {{shortSide: number, maxLongSide: number}} manifest
 * @returns {{width: number, height: number}}
 */
export function workingSize({ width, height }, { shortSide, maxLongSide }) {
  const scale = Math.min(maxLongSide / Math.max(width, height), shortSide / Math.min(width, height));
  const side = (/** @type {number} */ pixels) => Math.max(1, Math.floor(pixels * scale + 0.5));
  return { width: side(width), height: side(height) };
}

/**
 * A picture resized with the fixed-point arithmetic of OpenCV's INTER_LINEAR: half-pixel centres, no antialiasing.
 *
 * One level of a pixel moves scores by 2e-4, so its rounding is kept.
 * @param {Picture} picture
 * @param {{width: number, height: number}} size
 * @returns {Picture}
 */
export function resize(picture, { width, height }) {
  if (picture.width === width && picture.height === height) return picture;
  const columns = fixedPointTaps(picture.width, width, true);
  const rows = fixedPointTaps(picture.height, height, false);
  const pixels = new Uint8Array(3 * width * height);
  /** @type {{row: number, values: Int32Array}[]} the last two rows, stretched: neighbours in the result share them */
  const kept = [
    { row: -1, values: new Int32Array(3 * width) },
    { row: -1, values: new Int32Array(3 * width) },
  ];
  const stretched = (/** @type {number} */ row, /** @type {number} */ spared) => {
    const found = kept.find((one) => one.row === row);
    if (found) return found.values;
    const place = kept[kept[0].row === spared ? 1 : 0];
    place.row = row;
    stretch(picture, row, columns, place.values);
    return place.values;
  };
  for (let y = 0; y < height; y++) {
    const [top, bottom] = [rows.lower[y], rows.upper[y]];
    const above = stretched(top, bottom);
    const below = stretched(bottom, top);
    const [weight, other] = [rows.weights[2 * y], rows.weights[2 * y + 1]];
    for (let i = 0, to = 3 * width * y; i < 3 * width; i++, to++) {
      pixels[to] = (((above[i] * weight) >> 16) + ((below[i] * other) >> 16) + 2) >> 2;
    }
  }
  return { pixels, width, height };
}

/** @param {Picture} picture @param {number} row @param {Taps} columns @param {Int32Array} values */
function stretch({ pixels, width }, row, { lower, upper, weights }, values) {
  const start = 3 * width * row;
  for (let x = 0, to = 0; x < lower.length; x++) {
    const [left, right] = [start + 3 * lower[x], start + 3 * upper[x]];
    const [weight, other] = [weights[2 * x], weights[2 * x + 1]];
    values[to++] = (pixels[left] * weight + pixels[right] * other) >> 4;
    values[to++] = (pixels[left + 1] * weight + pixels[right + 1] * other) >> 4;
    values[to++] = (pixels[left + 2] * weight + pixels[right + 2] * other) >> 4;
  }
}

/**
 * @typedef {{lower: Int32Array, upper: Int32Array, weights: Int32Array}} Taps lower and upper neighbour of each target
 *   pixel, and their two weights, which sum to 2048
 */

/**
 * OpenCV clamps the weights at the left and right border, and only the neighbours at the top and bottom.
 * @param {number} source @param {number} target @param {boolean} clamp
 * @returns {Taps}
 */
function fixedPointTaps(source, target, clamp) {
  const taps = {
    lower: new Int32Array(target),
    upper: new Int32Array(target),
    weights: new Int32Array(2 * target),
  };
  const step = 1 / (target / source);
  for (let i = 0; i < target; i++) {
    const position = f((i + 0.5) * step - 0.5);
    const lower = Math.floor(position);
    const fraction = clamp && (lower < 0 || lower >= source - 1) ? 0 : f(position - lower);
    const within = (/** @type {number} */ index) => Math.min(Math.max(index, 0), source - 1);
    taps.lower[i] = within(lower);
    taps.upper[i] = within(lower + 1);
    taps.weights[2 * i] = roundHalfEven(f(1 - fraction) * (1 << RESIZE_BITS));
    taps.weights[2 * i + 1] = roundHalfEven(fraction * (1 << RESIZE_BITS));
  }
  return taps;
}

/** @param {number} value */
function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/**
 * Normalised pixels (3, height, width) of a picture, resized to the encoder's input size: bilinear with antialiasing.
 * @param {Picture} picture
 * @param {{inputSize: [number, number], mean: number[], std: number[]}} manifest
 * @returns {Float32Array}
 */
export function pixelValues({ pixels, width, height }, { inputSize: [rows, columns], mean, std }) {
  /** @type {Float32Array} */
  let planes = new Float32Array(3 * height * width);
  for (let i = 0, from = 0, size = height * width; i < size; i++) {
    planes[i] = pixels[from++];
    planes[size + i] = pixels[from++];
    planes[2 * size + i] = pixels[from++];
  }
  if (height !== rows) planes = resampleRows(planes, height, width, rows);
  if (width !== columns) planes = resampleColumns(planes, width, columns);
  const size = rows * columns;
  for (let c = 0; c < 3; c++) {
    const [scale, shift] = [f(1 / (255 * std[c])), f(-mean[c] / std[c])];
    for (let i = c * size; i < (c + 1) * size; i++) planes[i] = f(planes[i] * scale) + shift;
  }
  return planes;
}

/** @param {Float32Array} planes (3, height, width) @param {number} height @param {number} width @param {number} rows */
function resampleRows(planes, height, width, rows) {
  const { first, count, weights } = triangles(height, rows);
  const result = new Float32Array(3 * rows * width);
  for (let c = 0; c < 3; c++) {
    for (let y = 0, at = 0; y < rows; y++) {
      const to = (c * rows + y) * width;
      for (let k = 0; k < count[y]; k++, at++) {
        const from = (c * height + first[y] + k) * width;
        for (let x = 0; x < width; x++) result[to + x] += weights[at] * planes[from + x];
      }
    }
  }
  return result;
}

/** @param {Float32Array} planes (..., width) @param {number} width @param {number} columns */
function resampleColumns(planes, width, columns) {
  const { first, count, weights } = triangles(width, columns);
  const result = new Float32Array((planes.length / width) * columns);
  for (let row = 0, to = 0; row < planes.length; row += width) {
    for (let x = 0, at = 0; x < columns; x++) {
      let sum = 0;
      for (let k = 0, from = row + first[x]; k < count[x]; k++) sum += weights[at++] * planes[from++];
      result[to++] = sum;
    }
  }
  return result;
}

/**
 * Weights of a linear resize; when shrinking, the triangle is as wide as the scale. Positions are float32 as in PyTorch.
 * @param {number} source @param {number} target
 */
function triangles(source, target) {
  const scale = f(source / target);
  const reach = Math.max(scale, 1);
  const [first, count] = [new Int32Array(target), new Int32Array(target)];
  const weights = [];
  for (let i = 0; i < target; i++) {
    const centre = f(f(i + 0.5) * scale);
    const from = Math.max(0, Math.floor(centre - 0.5 - reach));
    const own = [];
    first[i] = from;
    for (let j = from; j < source && j <= centre + reach; j++) {
      own.push(Math.max(f(1 - Math.abs(f(f(f(j - centre) + 0.5) / reach))), 0));
    }
    const sum = f(own.reduce((one, other) => one + other, 0));
    count[i] = own.length;
    weights.push(...own.map((weight) => f(weight / sum)));
  }
  return { first, count, weights: Float32Array.from(weights) };
}

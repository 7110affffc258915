// Planes of scores: enlarged, and compared pixel by pixel. Linear, as t2d_runtime/masks/upsample.py and labels.py.

const TILE = 64; // side in pixels: small, so that few classes can win in it
const f = Math.fround;

/**
 * @typedef {object} Taps of a linear resize of one axis
 * @property {number} count of the source samples that each target sample is made of
 * @property {Int32Array} index `count` source samples for each target sample
 * @property {Float32Array} weight of each, adding up to 1
 *
 * @typedef {object} Size
 * @property {number} width
 * @property {number} height
 */

/**
 * @param {number} source @param {number} target samples
 * @param {boolean} alignCorners whether the outermost samples coincide, or their outer borders do
 * @returns {Taps}
 */
export function linearTaps(source, target, alignCorners) {
  const taps = { count: 2, index: new Int32Array(2 * target), weight: new Float32Array(2 * target) };
  const scale = alignCorners ? (target > 1 ? f((source - 1) / (target - 1)) : 0) : f(source / target);
  for (let i = 0; i < target; i++) {
    const position = alignCorners ? f(i * scale) : Math.max(f(f(f(i + 0.5) * scale) - 0.5), 0);
    const lower = Math.min(Math.trunc(position), source - 1);
    const fraction = Math.min(Math.max(f(position - lower), 0), 1);
    taps.index.set([lower, Math.min(lower + 1, source - 1)], 2 * i);
    taps.weight.set([f(1 - fraction), fraction], 2 * i);
  }
  return taps;
}

/**
 * One resize after another as a single one.
 * @param {Taps} first @param {Taps} second takes the samples that the first makes
 * @returns {Taps}
 */
export function chainTaps(first, second) {
  const target = second.index.length / second.count;
  const count = first.count * second.count;
  const taps = { count, index: new Int32Array(count * target), weight: new Float32Array(count * target) };
  for (let i = 0, to = 0; i < target * second.count; i++) {
    for (let k = 0, from = second.index[i] * first.count; k < first.count; k++, from++, to++) {
      taps.index[to] = first.index[from];
      taps.weight[to] = second.weight[i] * first.weight[from];
    }
  }
  return taps;
}

/**
 * Enlarge one plane, so that corner samples coincide.
 * @param {Float32Array} plane @param {Size} size of it
 * @param {Float32Array} result @param {Size} target size of the result
 */
export function upsample(plane, size, result, target) {
  const rows = linearTaps(size.height, target.height, true);
  const columns = linearTaps(size.width, target.width, true);
  const wide = new Float32Array(size.height * target.width);
  for (let y = 0, to = 0; y < size.height; y++) {
    for (let x = 0, from = y * size.width; x < target.width; x++) {
      const [lower, upper] = [plane[from + columns.index[2 * x]], plane[from + columns.index[2 * x + 1]]];
      wide[to++] = upper * columns.weight[2 * x + 1] + lower * columns.weight[2 * x];
    }
  }
  for (let y = 0, to = 0; y < target.height; y++) {
    const [lower, upper] = [rows.index[2 * y] * target.width, rows.index[2 * y + 1] * target.width];
    const [weight, other] = [rows.weight[2 * y], rows.weight[2 * y + 1]];
    for (let x = 0; x < target.width; x++) result[to++] = wide[upper + x] * other + wide[lower + x] * weight;
  }
}

/**
 * The classes that can be the label of a pixel: linear resizes and PAMR keep each within its range.
 * @param {Float32Array} planes N planes, one after the other @param {number} size of a plane
 * @param {number} threshold that a label's score must exceed; -Infinity for none
 * @returns {number[]}
 */
export function possibleWinners(planes, size, threshold) {
  const ranges = Array.from({ length: planes.length / size }, (_, n) => range(planes, n * size, (n + 1) * size));
  const floor = ranges.reduce((most, { least }) => Math.max(most, least), -Infinity);
  return ranges.flatMap(({ most }, n) => (most >= floor && most > threshold ? [n] : []));
}

/** @param {Float32Array} values @param {number} first @param {number} last */
function range(values, first, last) {
  let [least, most] = [Infinity, -Infinity];
  for (let i = first; i < last; i++) {
    const value = values[i];
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return { least, most };
}

/**
 * @typedef {object} Layers what competes: planes of one size, one after the other
 * @property {Float32Array} planes N x height x width
 * @property {Size} size
 * @property {ArrayLike<number>} names the label of each plane
 * @property {number} threshold that a score must exceed; -Infinity for none
 *
 * @typedef {object} Result rows of a picture
 * @property {Uint16Array} labels
 * @property {Float32Array} best what the winner's score is, and must exceed
 */

/**
 * Write labels where planes exceed the best so far; planes are of the picture's size already.
 * @param {Layers} layers
 * @param {Result} result of the whole picture
 */
export function labelPlanes({ planes, size, names }, { labels, best }) {
  const pixels = size.width * size.height;
  for (let n = 0, from = 0; n < names.length; n++) {
    const name = names[n];
    for (let i = 0; i < pixels; i++, from++) {
      if (planes[from] > best[i]) {
        best[i] = planes[from];
        labels[i] = name;
      }
    }
  }
}

/**
 * Write labels where resized planes exceed the best so far. Classes that cannot win in a tile are left out of it.
 * @param {Layers} layers
 * @param {Taps} rows @param {Taps} columns of the resize to the picture
 * @param {number} first @param {number} last rows of the picture, which the result holds
 * @param {Result} result
 */
export function labelResized(layers, rows, columns, first, last, result) {
  const width = columns.index.length / columns.count;
  for (let top = first; top < last; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      const box = { top, bottom: Math.min(top + TILE, last), left, right: Math.min(left + TILE, width) };
      labelTile(layers, rows, columns, box, first, width, result);
    }
  }
}

/**
 * @param {Layers} layers @param {Taps} rows @param {Taps} columns
 * @param {{top: number, bottom: number, left: number, right: number}} box
 * @param {number} first @param {number} width of the picture
 * @param {Result} result
 */
function labelTile(layers, rows, columns, box, first, width, { labels, best }) {
  const { planes, size, names } = layers;
  const seenRows = seen(rows, box.top, box.bottom);
  const seenColumns = seen(columns, box.left, box.right);
  const possible = possibleIn(layers, seenRows, seenColumns);
  const tall = new Float32Array(seenColumns.last - seenColumns.first);
  const wide = new Float32Array(box.right - box.left);
  for (let y = box.top; y < box.bottom; y++) {
    const line = (y - first) * width + box.left;
    for (const n of possible) {
      const name = names[n];
      blendRow(planes, n * size.width * size.height + seenColumns.first, size.width, rows, y, tall);
      blendColumns(tall, seenColumns.first, columns, box.left, wide);
      for (let x = 0; x < wide.length; x++) {
        if (wide[x] > best[line + x]) {
          best[line + x] = wide[x];
          labels[line + x] = name;
        }
      }
    }
  }
}

/**
 * A row of the picture, from `left` on.
 * @param {Float32Array} tall @param {number} offset the column that it begins with
 * @param {Taps} columns @param {number} left @param {Float32Array} wide
 */
function blendColumns(tall, offset, { count, index, weight }, left, wide) {
  if (count === 2) {
    for (let x = 0, k = 2 * left; x < wide.length; x++, k += 2) {
      wide[x] = weight[k] * tall[index[k] - offset] + weight[k + 1] * tall[index[k + 1] - offset];
    }
    return;
  }
  for (let x = 0, k = count * left; x < wide.length; x++) {
    let value = 0;
    for (const end = k + count; k < end; k++) value += weight[k] * tall[index[k] - offset];
    wide[x] = value;
  }
}

/**
 * One row of the picture, not yet resized along it.
 * @param {Float32Array} planes @param {number} start @param {number} width of a plane
 * @param {Taps} rows @param {number} y @param {Float32Array} tall
 */
function blendRow(planes, start, width, { count, index, weight }, y, tall) {
  tall.fill(0);
  for (let k = count * y; k < count * (y + 1); k++) {
    if (weight[k] === 0) continue;
    const from = start + index[k] * width;
    for (let x = 0; x < tall.length; x++) tall[x] += weight[k] * planes[from + x];
  }
}

/** The source samples of some target samples. @param {Taps} taps @param {number} first @param {number} last */
function seen({ count, index }, first, last) {
  const { least, most } = range(/** @type {any} */ (index), count * first, count * last);
  return { first: least, last: most + 1 };
}

/**
 * The classes that can win where the result depends on these rows and columns alone.
 * @param {Layers} layers
 * @param {{first: number, last: number}} rows @param {{first: number, last: number}} columns
 */
function possibleIn({ planes, size: { width, height }, names: { length: number }, threshold }, rows, columns) {
  const highest = new Float32Array(number);
  let floor = -Infinity;
  for (let n = 0; n < number; n++) {
    let [least, most] = [Infinity, -Infinity];
    for (let y = rows.first; y < rows.last; y++) {
      const line = (n * height + y) * width;
      for (let i = line + columns.first; i < line + columns.last; i++) {
        const value = planes[i];
        if (value < least) least = value;
        if (value > most) most = value;
      }
    }
    highest[n] = most;
    if (least > floor) floor = least;
  }
  const possible = [];
  for (let n = 0; n < number; n++) if (highest[n] >= floor && highest[n] > threshold) possible.push(n);
  return possible;
}

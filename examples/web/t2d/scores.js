// Scores of patches for words, cleaned by the heads' attention, with the arithmetic of t2d_runtime/masks.

const NORM_EPS = 1e-6; // smallest norm that a vector is divided by

/**
 * @typedef {object} Features of one picture, from the image encoder
 * @property {Float32Array} patchTokens P x D
 * @property {Float32Array} clsAttention M x P, logits of the last block's heads
 * @property {number} patches P
 * @property {number} width D
 */

/**
 * Scores N x P, 0 to 1: the sigmoid of the cosine of each vector and each patch token.
 * @param {Features} features
 * @param {Float32Array} norms of the tokens, from `tokenNorms`
 * @param {Float32Array} vectors N x D, each of norm 1
 * @returns {Float32Array}
 */
export function patchScores({ patchTokens, patches, width }, norms, vectors) {
  const rows = vectors.length / width;
  const scores = new Float32Array(rows * patches);
  for (let p = 0; p < patches; p++) {
    const token = patchTokens.subarray(p * width, (p + 1) * width);
    for (let n = 0; n < rows; n++) {
      scores[n * patches + p] = 1 / (1 + Math.exp(-dot(vectors, n * width, token, 0, width) / norms[p]));
    }
  }
  return scores;
}

/** The norm of each patch token. @param {Features} features */
export function tokenNorms({ patchTokens, patches, width }) {
  return Float32Array.from({ length: patches }, (_, p) =>
    Math.max(Math.sqrt(dot(patchTokens, p * width, patchTokens, p * width, width)), NORM_EPS),
  );
}

/**
 * Embeddings M x D of the heads, each of norm 1: the mean of the tokens, weighted by the head's logits as they are.
 * @param {Features} features
 * @returns {Float32Array}
 */
export function headEmbeddings({ patchTokens, clsAttention, patches, width }) {
  const heads = clsAttention.length / patches;
  const embeds = new Float32Array(heads * width);
  for (let m = 0; m < heads; m++) {
    const sums = new Float64Array(width);
    for (let p = 0; p < patches; p++) {
      const weight = clsAttention[m * patches + p] / patches;
      for (let d = 0, from = p * width; d < width; d++) sums[d] += weight * patchTokens[from++];
    }
    const norm = Math.max(Math.hypot(...sums), NORM_EPS);
    for (let d = 0; d < width; d++) embeds[m * width + d] = sums[d] / norm;
  }
  return embeds;
}

/**
 * Mix scores with the attention that the heads pay to each word, as the released code does; changes them in place.
 * @param {Float32Array} scores N x P
 * @param {Features} features
 * @param {Float32Array} embeds of the heads
 * @param {Float32Array} vectors N x D
 * @param {number} weight share of the attention, from 0
 */
export function cleanScores(scores, { clsAttention, patches, width }, embeds, vectors, weight) {
  const [rows, heads] = [vectors.length / width, clsAttention.length / patches];
  const attention = new Float32Array(rows * patches);
  for (let n = 0; n < rows; n++) {
    const relevance = Float64Array.from({ length: heads }, (_, m) => dot(vectors, n * width, embeds, m * width, width));
    softmax(relevance);
    const map = new Float64Array(patches);
    for (let m = 0; m < heads; m++) {
      for (let p = 0, from = m * patches; p < patches; p++) map[p] += relevance[m] * clsAttention[from++];
    }
    softmax(map);
    attention.set(map, n * patches);
  }
  // One range over all words and patches. The released code divides by the highest, not by the difference.
  const [lowest, highest] = extremes(attention);
  const [least, most] = extremes(scores);
  for (let i = 0; i < scores.length; i++) {
    const scaled = ((attention[i] - lowest) / highest) * (most - least) + least;
    scores[i] = (scores[i] + weight * scaled) / (1 + weight);
  }
}

/** @param {Float32Array} values */
function extremes(values) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return [least, most];
}

/** In place. @param {Float64Array} values */
function softmax(values) {
  const most = values.reduce((one, other) => Math.max(one, other));
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] = Math.exp(values[i] - most);
  for (let i = 0; i < values.length; i++) values[i] /= sum;
}

/**
 * Inner product of `length` numbers of two arrays from places on.
 * @param {Float32Array} one @param {number} i @param {Float32Array} other @param {number} j @param {number} length
 */
function dot(one, i, other, j, length) {
  let [a, b] = [0, 0]; // two sums do not wait for each other
  for (let k = 0; k + 1 < length; k += 2) {
    a += one[i + k] * other[j + k];
    b += one[i + k + 1] * other[j + k + 1];
  }
  return length % 2 ? a + b + one[i + length - 1] * other[j + length - 1] : a + b;
}

// Pictures from files, and masks over them.

import { InputError } from "./errors.js";
import { labelColours } from "./palette.js";

/** Most pixels of a shown and segmented picture. The model sees fewer, and memory in a page is scarce. */
const MAX_PIXELS = 4_000_000;

/**
 * Draw a picture file on a canvas: upright, transparency on white, shrunk where it has too many pixels.
 * @param {HTMLCanvasElement} canvas takes the picture's size
 * @param {File} file
 * @returns {Promise<{image: ImageData, original: {width: number, height: number}}>}
 */
export async function drawPicture(canvas, file) {
  if (file.size === 0) throw new InputError(`${file.name} is empty; expected a picture`);
  let bitmap;
  try {
    // Colours as stored, without a profile, as in the Python runtime.
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new InputError(
      `${file.name} cannot be decoded; expected a picture that this browser reads, such as JPEG or PNG`,
    );
  }
  const original = { width: bitmap.width, height: bitmap.height };
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (bitmap.width * bitmap.height)));
  canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
  canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { image: context.getImageData(0, 0, canvas.width, canvas.height), original };
}

/**
 * Draw labels in their colours, with white contours; the background is transparent.
 * @param {HTMLCanvasElement} canvas takes the labels' size
 * @param {import("./page.js").Segmentation} segmentation
 */
export function drawMasks(canvas, { labels, names, background, width, height }) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = labelColours(names.length, background).map(rgba);
  if (background) colours[0] = 0;
  const contour = rgba([255, 255, 255]);
  for (let place = 0; place < labels.length; place++) {
    const label = labels[place];
    const edge =
      (place % width > 0 && labels[place - 1] !== label) || (place >= width && labels[place - width] !== label);
    pixels[place] = edge ? contour : colours[label];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/**
 * Labels in the picture, the largest first, with their share of the pixels.
 * @param {import("./page.js").Segmentation} segmentation
 * @returns {{name: string, share: number, colour: number[]}[]}
 */
export function shares({ labels, names, background }) {
  const counts = new Float64Array(names.length);
  for (const label of labels) counts[label] += 1;
  const colours = labelColours(names.length, background);
  return names
    .map((name, label) => ({ name, share: counts[label] / labels.length, colour: colours[label] }))
    .filter(({ share }) => share > 0)
    .sort((one, other) => other.share - one.share);
}

/** An opaque pixel in ImageData's form on little-endian machines. @param {number[]} colour */
function rgba([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/**
 * The name of the label under a point of the window; null beside the picture.
 * @param {HTMLCanvasElement} canvas shows the labels, as large as its box allows
 * @param {import("./page.js").Segmentation} segmentation
 * @param {number} x @param {number} y in pixels of the window
 */
export function labelAt(canvas, { labels, names, width, height }, x, y) {
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / width, box.height / height);
  const column = Math.floor((x - box.left - (box.width - scale * width) / 2) / scale);
  const row = Math.floor((y - box.top - (box.height - scale * height) / 2) / scale);
  const inside = column >= 0 && column < width && row >= 0 && row < height;
  return inside ? names[labels[row * width + column]] : null;
}

/**
 * Save the picture with its masks.
 * @param {HTMLCanvasElement} picture @param {HTMLCanvasElement} masks @param {number} opacity of the masks, 0 to 1
 */
export function downloadOverlay(picture, masks, opacity) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  context.globalAlpha = opacity;
  context.drawImage(masks, 0, 0);
  return save(canvas, "overlay.png");
}

/** Save the labels as grey values. @param {{labels: ArrayLike<number>, width: number, height: number}} segmentation */
export function downloadLabels({ labels, width, height }) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let place = 0; place < labels.length; place++) pixels[place] = rgba(Array(3).fill(labels[place]));
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return save(canvas, "labels.png");
}

/** @param {OffscreenCanvas} canvas @param {string} name of the file */
async function save(canvas, name) {
  const address = URL.createObjectURL(await canvas.convertToBlob());
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser reads it in the meantime
}

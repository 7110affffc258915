// Pictures in and label pictures out.

import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { encode } from "fast-png";
import sharp from "sharp";

import { labelColours } from "../../t2d_runtime/serving/page/palette.js";
import { InputError } from "../web/t2d/index.js";

const MAX_PIXELS = Math.floor(1024 ** 3 / 4 / 3); // as t2d_runtime/image/sizes.py

/**
 * A picture as RGB, upright, transparency shown on white.
 * @param {string} path
 * @returns {Promise<{pixels: Uint8Array, width: number, height: number}>}
 */
export async function readPicture(path) {
  const bytes = await readBytes(path, "picture");
  if (bytes.length === 0) throw new InputError(`${path} is empty; expected a JPEG, PNG or WebP picture`);
  try {
    // Colours as stored, without a profile, as in the Python runtime.
    const { data, info } = await sharp(bytes, { ignoreIcc: true, limitInputPixels: MAX_PIXELS })
      .autoOrient()
      .flatten({ background: "white" })
      .toColourspace("srgb")
      .raw()
      .toBuffer({ resolveWithObject: true });
    return {
      pixels: new Uint8Array(data.buffer, data.byteOffset, data.length),
      width: info.width,
      height: info.height,
    };
  } catch (error) {
    const reason = error.message.split("\n")[0];
    if (reason.includes("pixel limit")) {
      throw new InputError(`${path} has more than ${MAX_PIXELS} pixels, the limit; make it smaller`);
    }
    throw new InputError(`${path} cannot be decoded, expected a JPEG, PNG or WebP picture: ${reason}`);
  }
}

/**
 * Write labels as a PNG, whole or not at all: palette indices up to 256 labels, else 16-bit grey.
 * @param {string} path
 * @param {import("../web/t2d/segmenter.js").Segmentation} segmentation
 */
export async function writeLabels(path, { labels, names, background, width, height }) {
  const palette = labelColours(names.length, background);
  if (background) palette[0] = [0, 0, 0];
  const coded = labels instanceof Uint8Array ? { depth: 8, palette } : { depth: 16 };
  const png = encode({ width, height, channels: 1, data: labels, ...coded });
  const temporary = `${path}.${process.pid}.part`;
  try {
    await writeFile(temporary, png);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new InputError(`cannot write ${path}: ${error.code}; choose another output`);
  }
}

/**
 * @param {string} path
 * @param {string} kind of file, for the message
 */
export async function readBytes(path, kind) {
  try {
    return await readFile(path);
  } catch (error) {
    if (error.code === "ENOENT") throw new InputError(`${path}: no such ${kind}`);
    throw new InputError(`${path} cannot be read: ${error.code}; expected a ${kind}`);
  }
}

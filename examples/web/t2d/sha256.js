import { InputError } from "./errors.js";

/**
 * Hexadecimal sha256 of parts, one after the other.
 * @param {...Uint8Array} parts
 * @returns {Promise<string>}
 */
export async function sha256(...parts) {
  if (!globalThis.crypto?.subtle) {
    throw new InputError("this page needs https, or http on localhost, to check its files");
  }
  const digest = await crypto.subtle.digest("SHA-256", await new Blob(/** @type {BlobPart[]} */ (parts)).arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A bundle in a folder, for Node.js.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { InputError } from "./errors.js";

/**
 * The files of a folder.
 * @param {string} path of the bundle
 * @returns {import("./bundle.js").Source}
 */
export function folder(path) {
  return {
    name: path,
    read: async (name, size, { progress = () => {}, signal }) => {
      const place = join(path, name);
      try {
        const bytes = await readFile(place, { signal });
        progress(size ?? bytes.length);
        return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
      } catch (error) {
        const { code, name: kind } = /** @type {NodeJS.ErrnoException} */ (error);
        if (kind === "AbortError") throw error;
        if (code === "ENOENT" && size === null) throw new InputError(`${place}: no such bundle`);
        throw new InputError(`${place} cannot be read: ${code}; copy or export the bundle again`);
      }
    },
    locate: (name) => join(path, name),
  };
}

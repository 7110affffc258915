// Files from the page's own server.

import { InputError } from "./errors.js";

/** @param {URL} url @param {string} advice */
export async function fetchBytes(url, advice) {
  // A bundle may replace another within the second that servers compare dates by: no cached copy is asked about.
  const response = await fetch(url, { cache: "no-store" });
  if (!response.ok) {
    throw new InputError(`${url.pathname} cannot be loaded (${response.status} ${response.statusText}); ${advice}`);
  }
  return new Uint8Array(await response.arrayBuffer());
}

// Unpacks the browser that the package @sparticuz/chromium carries into a folder, whole or not at all:
//
//     node unpack-chromium.js FOLDER
//
// The package is made for a cloud service, where it also brings the libraries and fonts that a bare machine lacks.

import { mkdir, rename, writeFile } from "node:fs/promises";
import { resolve } from "node:path";

const folder = resolve(process.argv[2]);
const part = `${folder}.${process.pid}.part`;
await mkdir(part, { recursive: true });
process.env.TMPDIR = part; // where the package unpacks to
process.env.AWS_LAMBDA_JS_RUNTIME = "nodejs22.x"; // or it leaves the libraries out
const { default: chromium } = await import("@sparticuz/chromium");
await chromium.executablePath();
// The package's own list names the cloud service's folders, and without any font Chromium ends at once.
const fonts = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${folder}/fonts/fonts</dir>
  <cachedir>${folder}/fonts/cache</cachedir>
</fontconfig>
`;
await writeFile(`${part}/fonts/fonts.conf`, fonts);
await rename(part, folder);

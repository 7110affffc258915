// Unpacks the browser that the package @sparticuz/chromium carries into a folder, whole or not at all:
//
//     node unpack-chromium.js FOLDER
//
// The package is made for a cloud service, where it also brings the libraries and fonts that a bare machine lacks.

import { mkdir, rename } from "node:fs/promises";

const folder = process.argv[2];
const part = `${folder}.${process.pid}.part`;
await mkdir(part, { recursive: true });
process.env.TMPDIR = part; // where the package unpacks to
process.env.AWS_LAMBDA_JS_RUNTIME = "nodejs22.x"; // or it leaves the libraries out
const { default: chromium } = await import("@sparticuz/chromium");
await chromium.executablePath();
await rename(part, folder);

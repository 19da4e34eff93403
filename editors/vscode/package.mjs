/**
 * Packages the extension: `npm run package` makes dist/inpaint.vsix.
 *
 * The server goes with it, as a wheel made by the Python that PYTHON names, beside the requirements that pin by hashes
 * what it needs: so this one file installs everything but Python.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const REPOSITORY = "../..";
const SERVER = "dist/server";
const NODE = 22; // what vsce needs

if (Number(process.versions.node.split(".")[0]) < NODE) {
  console.error(`Packaging needs Node.js ${NODE} or newer; this is ${process.versions.node}.`);
  process.exit(1);
}
const python = process.env.PYTHON ?? (process.platform === "win32" ? "python" : "python3");
const clear = (folder) => rmSync(folder, { recursive: true, force: true });
clear(SERVER);
clear(`${REPOSITORY}/build/lib`); // or what has been deleted since would be in the wheel
mkdirSync(SERVER, { recursive: true });
execFileSync(python, ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", SERVER, REPOSITORY], { stdio: "inherit" });
clear(`${REPOSITORY}/build/lib`);
const [wheel] = readdirSync(SERVER);
const hash = createHash("sha256").update(readFileSync(`${SERVER}/${wheel}`)).digest("hex");
const pinned = readFileSync("requirements.txt", "utf8");
writeFileSync(`${SERVER}/requirements.txt`, `${pinned}./${wheel} --hash=sha256:${hash}\n`);
copyFileSync(`${REPOSITORY}/LICENSE`, "LICENSE");
// pictures are in the package, except for a marketplace, which loads them from the repository
const repository = process.env.GITHUB_REPOSITORY && `https://github.com/${process.env.GITHUB_REPOSITORY}`;
const links = repository
  ? ["--baseContentUrl", `${repository}/blob/HEAD/editors/vscode`, "--baseImagesUrl", `${repository}/raw/HEAD/editors/vscode`]
  : ["--allow-missing-repository", "--no-rewrite-relative-links"];
const vsce = ["node_modules/@vscode/vsce/vsce", "package", "--no-dependencies", ...links, "--out", "dist/inpaint.vsix"];
execFileSync(process.execPath, vsce, { stdio: "inherit" });

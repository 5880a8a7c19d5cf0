// Reads Zarr arrays with zarrita, and prints for each folder named on standard input (JSON) what
// was found: shape, data type and the sha256 of its pixels, little-endian in C order, or the error.
import { createHash } from "node:crypto";
import { text } from "node:stream/consumers";

import FileSystemStore from "@zarrita/storage/fs";
import * as zarr from "zarrita";

async function read(folder) {
  const array = await zarr.open(zarr.root(new FileSystemStore(folder)), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { shape, dtype: array.dtype, sha256: createHash("sha256").update(bytes).digest("hex") };
}

const found = {};
for (const folder of JSON.parse(await text(process.stdin))) {
  try {
    found[folder] = await read(folder);
  } catch (error) {
    found[folder] = { error: `${error.name}: ${error.message}` };
  }
}
console.log(JSON.stringify(found));

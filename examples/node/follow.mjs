// Follows a channel, and keeps the position in a file: node follow.mjs URL CHANNEL FILE [COUNT].

import { readFile, rename, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";

const [url, channel, file, count = "0"] = process.argv.slice(2);
let left = Number(count) || Infinity;

const load = () => readFile(file, "utf8").catch(() => "");

/** A crash leaves the old file or the new one. */
async function store(id) {
  await writeFile(`${file}.new`, id, { flush: true });
  await rename(`${file}.new`, file);
}

/** Reads one connection to its end. */
async function readStream() {
  const last = await load();
  const target = new URL(`stream?${new URLSearchParams({ channel, ...(last ? {} : { from: "oldest" }) })}`, `${url}/`);
  const abort = new AbortController();
  // Heartbeats arrive every 15 s, so silence of 45 s is a broken connection.
  let timer = setTimeout(() => abort.abort(), 45_000);
  const response = await fetch(target, { headers: last ? { "Last-Event-ID": last } : {}, signal: abort.signal });
  if (!response.ok) {
    console.error(await response.text());
    process.exit(1);
  }
  let block = { event: "message" };
  for await (const line of createInterface({ input: Readable.fromWeb(response.body) })) {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), 45_000);
    if (line !== "") {
      const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (field === "data") block.data = block.data === undefined ? value : `${block.data}\n${value}`;
      else if (field !== "") block[field] = value;
      continue;
    }
    if (block.data !== undefined) {
      console.log(`${block.event}: ${block.data}`);
      left -= 1;
    }
    // Stored after the event was handled: the other order would lose it in a crash.
    if (block.id !== undefined) await store(block.id);
    if (left <= 0) process.exit(0);
    block = { event: "message" };
  }
}

for (;;) {
  await readStream().catch((error) => console.error(`disconnected: ${error.message}`));
  await new Promise((resolve) => setTimeout(resolve, 3000));
}

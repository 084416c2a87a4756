// Runs one task and reports `globalThis.result`; started as
// `bun bootstrap.ts <channel fd> <task file> [<results file>]` by sandbox/supervisor.py,
// which reads the channel as untrusted input: one JSON object a line, the last result
// counts.
import { readFileSync, writeSync } from "node:fs";

const [bun = "bun", , channel, task, results] = process.argv;
if (!channel || !task) throw new Error("usage: bootstrap.ts CHANNEL_FD TASK_FILE");
process.argv = [bun, task];

const { parse, stringify } = JSON;
let delivered = "";

function send(line: string): void {
  const bytes = Buffer.from(`${line}\n`);
  for (let sent = 0; sent < bytes.length; ) {
    sent += writeSync(Number(channel), bytes, sent);
  }
}

function resultLine(): string {
  try {
    const value: unknown = (globalThis as { result?: unknown }).result ?? null;
    const json = stringify(value) as string | undefined;
    if (json === undefined) throw new TypeError(`a ${typeof value} is not JSON`);
    return `{"result":${json}}`;
  } catch (error) {
    return stringify({ unserialisable: String(error).slice(0, 1000) });
  }
}

function deliver(): void {
  const line = resultLine();
  if (line === delivered) return;
  delivered = line;
  send(line);
}

/** Makes `$results`, `$last`, `$result1` … of the lines in the file, parsed on use. */
function bindResults(file: string): void {
  const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
  const bound = lines.map((line) => {
    const end = line.indexOf(" ");
    const json = end < 0 ? undefined : line.slice(end + 1);
    const number = end < 0 ? line : line.slice(0, end);
    const read = once(() => (json === undefined ? undefined : parse(json)));
    return { name: `$result${number}`, json, read };
  });
  for (const { name, read } of bound) define(name, read);
  define("$last", bound.at(-1)?.read ?? (() => undefined));
  const kept = bound.filter(({ json }) => json !== undefined);
  define("$results", once(() => kept.map(({ read }) => read())));
}

function once(make: () => unknown): () => unknown {
  let made: { value: unknown } | undefined;
  return () => (made ??= { value: make() }).value;
}

function define(name: string, get: () => unknown): void {
  Object.defineProperty(globalThis, name, { get, configurable: true });
}

send('{"started":true}');
if (results) bindResults(results);
// Also what `process.exit()`, a late exception and a late change of the result reach.
process.on("exit", deliver);
try {
  await import(task);
} catch (error) {
  console.error(error);
  process.exit(1);
}
deliver();

// Runs one task and reports `globalThis.result`; started as
// `bun bootstrap.ts <channel fd> <task file>` by sandbox/supervisor.py, which reads the
// channel as untrusted input: one JSON object a line, the last result counts.
import { writeSync } from "node:fs";

const [bun = "bun", , channel, task] = process.argv;
if (!channel || !task) throw new Error("usage: bootstrap.ts CHANNEL_FD TASK_FILE");
process.argv = [bun, task];

const stringify = JSON.stringify;
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

send('{"started":true}');
// Also what `process.exit()`, a late exception and a late change of the result reach.
process.on("exit", deliver);
try {
  await import(task);
} catch (error) {
  console.error(error);
  process.exit(1);
}
deliver();

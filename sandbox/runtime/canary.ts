// Looks from inside for what must not be there; sandbox/choice.py judges the answers.
import { closeSync, openSync, readFileSync, readdirSync } from "node:fs";

const status = readFileSync("/proc/self/status", "utf8");

function field(name: string): string | undefined {
  return status.match(new RegExp(`^${name}:\\s*(\\S+)`, "m"))?.[1];
}

/** The error code of opening a file, or "opened". Nothing is written. */
function attempt(path: string, flags: string): string {
  try {
    closeSync(openSync(path, flags));
    return "opened";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** How much there is to read in a file, or the error code of reading it. */
function sizeOf(path: string): number | string {
  try {
    return readFileSync(path).length;
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

(globalThis as { result?: unknown }).result = {
  root: readdirSync("/").sort(),
  effective_capabilities: field("CapEff"),
  no_new_privileges: field("NoNewPrivs"),
  inherited_environment_bytes: sizeOf("/proc/1/environ"),
  interfaces: [...readFileSync("/proc/net/dev", "utf8").matchAll(/^\s*(\w+):/gm)]
    .map((match) => match[1]),
  // Root outside is root of the machine through this file, whatever it is called inside.
  core_pattern: attempt("/proc/sys/kernel/core_pattern", "r+"),
  root_directory: attempt("/canary", "w"),
};

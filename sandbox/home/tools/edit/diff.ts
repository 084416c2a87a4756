export interface AppliedDiff {
  text: string;
  appliedHunks: number;
  added: number;
  removed: number;
}

export interface DiffOptions {
  /** The name in the header lines. */
  path?: string;
  /** Unchanged lines around a change. */
  context?: number;
}

type Sign = " " | "-" | "+";

interface DiffLine {
  sign: Sign;
  /** With its line break, unless it is the last line of a text that has none. */
  text: string;
}

interface Hunk {
  /** Index of the first line it replaces, as the header says. */
  start: number;
  lines: DiffLine[];
}

const NO_LINE_BREAK = "\\ No newline at end of file";

/**
 * Apply a unified diff of one file.
 *
 * Every context line and removed line is checked. A hunk whose line numbers are off is
 * applied where its lines stand, when that is one place only; otherwise an error says
 * which hunk does not fit, and nothing is applied.
 */
export function applyUnifiedDiff(text: string, diff: string): AppliedDiff {
  const hunks = parse(diff);
  if (hunks.length === 0) throw new Error("the diff has no hunk: a line like @@ -1,3 +1,4 @@");
  const lines = linesOf(text);
  let shift = 0;
  hunks.forEach((hunk, index) => {
    const old = side(hunk, "-");
    const at = placeOf(lines, old, hunk.start + shift, index + 1);
    const fresh = side(hunk, "+");
    lines.splice(at, old.length, ...fresh);
    shift = at - hunk.start + fresh.length - old.length;
  });
  const all = hunks.flatMap((hunk) => hunk.lines);
  return {
    text: lines.join(""),
    appliedHunks: hunks.length,
    added: all.filter((line) => line.sign === "+").length,
    removed: all.filter((line) => line.sign === "-").length,
  };
}

/** Write the unified diff that turns one text into another; "" when they are equal. */
export function generateUnifiedDiff(
  before: string,
  after: string,
  { path = "file", context = 3 }: DiffOptions = {},
): string {
  if (before === after) return "";
  const script = editScript(linesOf(before), linesOf(after));
  const hunks = hunksOf(script, context);
  return `--- a/${path}\n+++ b/${path}\n${hunks.map(printed).join("")}`;
}

function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

// Reading a diff.

function parse(diff: string): Hunk[] {
  const hunks: Hunk[] = [];
  let left = { "-": 0, "+": 0 };
  for (const line of linesOf(diff)) {
    const hunk = hunks.at(-1);
    const header = /^@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@/.exec(line);
    if (header && left["-"] <= 0 && left["+"] <= 0) {
      left = { "-": Number(header[2] ?? 1), "+": Number(header[3] ?? 1) };
      // "-5,0" means after line 5, "-5,1" means line 5.
      const start = Number(header[1]) - (left["-"] === 0 ? 0 : 1);
      hunks.push({ start, lines: [] });
    } else if (hunk && line.startsWith("\\")) {
      const last = hunk.lines.at(-1);
      if (last) last.text = last.text.replace(/\n$/, "");
    } else if (hunk && (left["-"] > 0 || left["+"] > 0)) {
      const { sign, text } = diffLine(line, hunks.length);
      hunk.lines.push({ sign, text });
      if (sign !== "+") left["-"] -= 1;
      if (sign !== "-") left["+"] -= 1;
    }
  }
  if (left["-"] !== 0 || left["+"] !== 0) {
    throw new Error(`hunk ${hunks.length} has not the number of lines its @@ line says`);
  }
  return hunks;
}

function diffLine(line: string, hunk: number): DiffLine {
  const text = line.endsWith("\n") ? line.slice(1) : `${line.slice(1)}\n`;
  const sign = line[0];
  if (sign === " " || sign === "-" || sign === "+") return { sign, text };
  // Editors strip the space of an empty context line.
  if (line.trim() === "") return { sign: " ", text: "\n" };
  throw new Error(`hunk ${hunk} has a line that begins with none of " ", "-", "+": ${line.trim()}`);
}

function side(hunk: Hunk, sign: "-" | "+"): string[] {
  const lines = hunk.lines.filter((line) => line.sign === " " || line.sign === sign);
  return lines.map((line) => line.text);
}

function placeOf(
  lines: readonly string[],
  old: readonly string[],
  expected: number,
  hunk: number,
): number {
  if (standsAt(lines, old, expected)) return expected;
  const places = lines.flatMap((_, at) => (standsAt(lines, old, at) ? [at] : []));
  const [place] = places;
  if (place !== undefined && places.length === 1 && old.length > 0) return place;
  throw new Error(`hunk ${hunk} does not fit: ${whyNot(lines, old, expected)}`);
}

function standsAt(lines: readonly string[], old: readonly string[], at: number): boolean {
  return at >= 0 && at <= lines.length && old.every((line, index) => lines[at + index] === line);
}

function whyNot(lines: readonly string[], old: readonly string[], at: number): string {
  const wrong = old.findIndex((line, index) => lines[at + index] !== line);
  if (wrong === -1) return `the text has no line ${at + 1}`;
  const found = lines[at + wrong];
  const stands = found === undefined ? "the text has ended" : JSON.stringify(found);
  return `line ${at + wrong + 1} should be ${JSON.stringify(old[wrong])}, but ${stands}`;
}

// Writing a diff.

/** Myers' greedy algorithm (An O(ND) Difference Algorithm, 1986) on the changed middle. */
function editScript(before: readonly string[], after: readonly string[]): DiffLine[] {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head++;
  let tail = 0;
  const room = Math.min(before.length, after.length) - head;
  while (tail < room && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  const same = (text: string): DiffLine => ({ sign: " ", text });
  return [
    ...before.slice(0, head).map(same),
    ...middle(before.slice(head, before.length - tail), after.slice(head, after.length - tail)),
    ...before.slice(before.length - tail).map(same),
  ];
}

function middle(before: readonly string[], after: readonly string[]): DiffLine[] {
  const trace = furthestReaches(before, after);
  const script: DiffLine[] = [];
  let x = before.length;
  let y = after.length;
  for (let edits = trace.length - 1; edits >= 0; edits--) {
    const reach = trace[edits] as ReadonlyMap<number, number>;
    const diagonal = x - y;
    const previous = comesFromAbove(reach, diagonal, edits) ? diagonal + 1 : diagonal - 1;
    const fromX = edits === 0 ? 0 : (reach.get(previous) ?? 0);
    const fromY = edits === 0 ? 0 : fromX - previous;
    while (x > fromX && y > fromY && before[x - 1] === after[y - 1]) {
      script.push({ sign: " ", text: before[--x] as string });
      y--;
    }
    if (edits === 0) break;
    if (x === fromX) script.push({ sign: "+", text: after[--y] as string });
    else script.push({ sign: "-", text: before[--x] as string });
  }
  return script.reverse();
}

/** For each number of edits: how far each diagonal had got before them. */
function furthestReaches(
  before: readonly string[],
  after: readonly string[],
): Map<number, number>[] {
  const trace: Map<number, number>[] = [];
  const reach = new Map<number, number>([[1, 0]]);
  for (let edits = 0; ; edits++) {
    trace.push(new Map(reach));
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      let x = comesFromAbove(reach, diagonal, edits)
        ? (reach.get(diagonal + 1) ?? 0)
        : (reach.get(diagonal - 1) ?? 0) + 1;
      while (x < before.length && x - diagonal < after.length && before[x] === after[x - diagonal]) x++;
      reach.set(diagonal, x);
      if (x >= before.length && x - diagonal >= after.length) return trace;
    }
  }
}

function comesFromAbove(reach: ReadonlyMap<number, number>, diagonal: number, edits: number): boolean {
  if (diagonal === -edits) return true;
  if (diagonal === edits) return false;
  return (reach.get(diagonal - 1) ?? 0) < (reach.get(diagonal + 1) ?? 0);
}

interface PlacedHunk {
  before: number;
  after: number;
  lines: readonly DiffLine[];
}

function hunksOf(script: readonly DiffLine[], context: number): PlacedHunk[] {
  const ranges: { start: number; end: number }[] = [];
  script.forEach((line, index) => {
    if (line.sign === " ") return;
    const start = Math.max(0, index - context);
    const end = index + context + 1;
    const last = ranges.at(-1);
    if (last && start <= last.end) last.end = end;
    else ranges.push({ start, end });
  });
  return ranges.map(({ start, end }) => ({
    before: countWithout("+", script.slice(0, start)),
    after: countWithout("-", script.slice(0, start)),
    lines: script.slice(start, end),
  }));
}

function countWithout(sign: Sign, lines: readonly DiffLine[]): number {
  return lines.filter((line) => line.sign !== sign).length;
}

function printed({ before, after, lines }: PlacedHunk): string {
  const body = lines.map(({ sign, text }) =>
    text.endsWith("\n") ? sign + text : `${sign}${text}\n${NO_LINE_BREAK}\n`,
  );
  const old = range(before, countWithout("+", lines));
  const fresh = range(after, countWithout("-", lines));
  return `@@ -${old} +${fresh} @@\n${body.join("")}`;
}

function range(start: number, count: number): string {
  const first = count === 0 ? start : start + 1;
  return count === 1 ? `${first}` : `${first},${count}`;
}

import { cut, oneLine } from "core/text";

/** Replace the one place where `search` stands. Throws when there is none or several. */
export function replaceText(text: string, search: string, replacement: string): string {
  const first = find(text, search);
  const second = text.indexOf(search, first + 1);
  if (second !== -1) {
    const lines = `lines ${lineAt(text, first)} and ${lineAt(text, second)}`;
    throw new Error(
      `${name(search)} stands in several places (${lines}): add lines around it, or use replaceAllText`,
    );
  }
  return text.slice(0, first) + replacement + text.slice(first + search.length);
}

/** Replace every place where `search` stands. Throws when there is none. */
export function replaceAllText(text: string, search: string, replacement: string): string {
  find(text, search);
  return text.split(search).join(replacement);
}

/**
 * Replace the one run of lines that equals `search` but for white space.
 *
 * The replacement is shifted to the indentation of what was found. Throws when no run
 * of lines fits, or several do.
 */
export function replaceTextFuzzy(text: string, search: string, replacement: string): string {
  const wanted = withoutOuterBlanks(search.split("\n"));
  if (wanted.length === 0) throw new Error("the text to look for is empty");
  const lines = text.split("\n");
  const places = placesOf(lines, wanted);
  const [place] = places;
  if (place === undefined) throw new Error(`${name(search)} is not in the text, whatever its white space`);
  if (places.length > 1) {
    const numbers = places.map((at) => at + 1).join(", ");
    throw new Error(`${name(search)} stands in several places (lines ${numbers}): add lines around it`);
  }
  const shifted = shift(
    withoutOuterBlanks(replacement.split("\n")),
    indentOf(wanted[0] ?? ""),
    indentOf(lines[place] ?? ""),
  );
  lines.splice(place, wanted.length, ...shifted);
  return lines.join("\n");
}

function find(text: string, search: string): number {
  if (search === "") throw new Error("the text to look for is empty");
  const at = text.indexOf(search);
  if (at === -1) throw new Error(`${name(search)} is not in the text`);
  return at;
}

function placesOf(lines: readonly string[], wanted: readonly string[]): number[] {
  const plain = lines.map(oneLine);
  const plainWanted = wanted.map(oneLine);
  return plain.flatMap((_, start) =>
    plainWanted.every((line, index) => plain[start + index] === line) ? [start] : [],
  );
}

function withoutOuterBlanks(lines: readonly string[]): string[] {
  const first = lines.findIndex((line) => line.trim() !== "");
  const last = lines.findLastIndex((line) => line.trim() !== "");
  return first === -1 ? [] : lines.slice(first, last + 1);
}

function indentOf(line: string): string {
  return line.slice(0, line.length - line.trimStart().length);
}

function shift(lines: readonly string[], from: string, to: string): string[] {
  return lines.map((line) => {
    if (line.trim() === "") return "";
    return line.startsWith(from) ? to + line.slice(from.length) : line;
  });
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

function name(search: string): string {
  return `"${cut(oneLine(search), 80)}"`;
}

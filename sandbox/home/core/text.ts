/**
 * Shorten a text to about `most` characters, keeping its head and its tail.
 *
 * What is left out is said in the middle: `… 1234 characters cut …`. `headShare` is the
 * part of `most` that the head gets. Surrogate pairs are not split.
 */
export function cut(text: string, most: number, headShare = 0.7): string {
  if (text.length <= most) return text;
  const head = wholeBefore(text, Math.floor(most * headShare));
  const tail = wholeBefore(text, text.length - (most - head));
  return `${text.slice(0, head)}\n… ${tail - head} characters cut …\n${text.slice(tail)}`;
}

/** The nearest index at or before `index` that does not split a surrogate pair. */
function wholeBefore(text: string, index: number): number {
  const unit = text.charCodeAt(index);
  const isSecondHalf = index > 0 && unit >= 0xdc00 && unit <= 0xdfff;
  return isSecondHalf ? index - 1 : index;
}

/** Count words, in any script that `Intl.Segmenter` knows. */
export function words(text: string): number {
  const segments = new Intl.Segmenter(undefined, { granularity: "word" }).segment(text);
  return [...segments].filter((segment) => segment.isWordLike).length;
}

/** Make one line of a text: every run of white space becomes a space. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

/** Remove the indentation that all non-blank lines share, and blank first and last lines. */
export function dedent(text: string): string {
  const lines = text.replace(/^([ \t]*\n)+|(\n[ \t]*)+$/g, "").split("\n");
  const indents = lines.filter((line) => line.trim()).map((line) => line.search(/\S/));
  const shared = Math.min(...indents);
  return Number.isFinite(shared) ? lines.map((line) => line.slice(shared)).join("\n") : "";
}

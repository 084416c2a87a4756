export interface TableOptions {
  /** The columns and their order; by default every key, in order of appearance. */
  columns?: readonly string[];
  format?: "text" | "markdown";
}

/**
 * Format rows as a table: aligned text, or Markdown.
 *
 * Columns that hold only numbers are aligned to the right. Objects are shown as JSON,
 * `null` and `undefined` as nothing.
 */
export function table(
  rows: readonly Readonly<Record<string, unknown>>[],
  { columns = keysOf(rows), format = "text" }: TableOptions = {},
): string {
  if (columns.length === 0) return "";
  const cells = rows.map((row) => columns.map((column) => show(row[column], format)));
  const header = columns.map((column) => show(column, format));
  const widths = header.map((title, index) =>
    Math.max(3, ...[title, ...cells.map((row) => row[index] ?? "")].map(widthOf)),
  );
  const numeric = columns.map((column) =>
    rows.some((row) => typeof row[column] === "number") &&
    rows.every((row) => row[column] == null || typeof row[column] === "number"),
  );
  const line = (row: readonly string[]) =>
    row.map((cell, index) => pad(cell, widths[index] ?? 0, numeric[index] ?? false));
  if (format === "text") {
    const rule = widths.map((width) => "-".repeat(width));
    return [line(header), rule, ...cells.map(line)]
      .map((row) => row.join("  ").trimEnd())
      .join("\n");
  }
  const rule = widths.map((width, index) =>
    numeric[index] ? `${"-".repeat(width - 1)}:` : "-".repeat(width),
  );
  return [line(header), rule, ...cells.map(line)]
    .map((row) => `| ${row.join(" | ")} |`)
    .join("\n");
}

function keysOf(rows: readonly Readonly<Record<string, unknown>>[]): string[] {
  return [...new Set(rows.flatMap((row) => Object.keys(row)))];
}

function show(value: unknown, format: "text" | "markdown"): string {
  const isNothing = value === null || value === undefined;
  const text = isNothing ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
  const line = text.replace(/\s*\n\s*/g, " ");
  return format === "markdown" ? line.replaceAll("|", "\\|") : line;
}

/** Columns of a terminal that a text takes: wide characters take two. */
function widthOf(text: string): number {
  return Bun.stringWidth(text);
}

function pad(cell: string, width: number, toTheRight: boolean): string {
  const space = " ".repeat(Math.max(0, width - widthOf(cell)));
  return toTheRight ? space + cell : cell + space;
}

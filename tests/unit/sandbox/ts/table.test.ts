import { expect, test } from "bun:test";
import { table } from "core/table";

const rows = [
  { name: "scout", turns: 3, note: null },
  { name: "日本", turns: 12, note: "a|b\nc" },
];

test("a table of text is aligned, numbers to the right, wide characters counted", () => {
  expect(table(rows)).toBe(
    ["name   turns  note", "-----  -----  -----", "scout      3", "日本      12  a|b c"].join("\n"),
  );
});

test("a Markdown table escapes what would break it", () => {
  expect(table(rows, { format: "markdown", columns: ["note", "turns"] })).toBe(
    ["| note   | turns |", "| ------ | ----: |", "|        |     3 |", "| a\\|b c |    12 |"].join("\n"),
  );
});

test("no rows make an empty table, or a header when columns are named", () => {
  expect(table([])).toBe("");
  expect(table([], { columns: ["id"] })).toBe("id\n---");
});

test("objects are shown as JSON", () => {
  expect(table([{ a: { b: [1] } }])).toContain('{"b":[1]}');
});

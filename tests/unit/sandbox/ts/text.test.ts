import { describe, expect, test } from "bun:test";
import { cut, dedent, oneLine, words } from "core/text";

describe("cut", () => {
  test("leaves a short text as it is", () => {
    expect(cut("short", 5)).toBe("short");
  });

  test("keeps head and tail and says how much is missing", () => {
    expect(cut("a".repeat(70) + "b".repeat(900) + "c".repeat(30), 100)).toBe(
      `${"a".repeat(70)}\n… 900 characters cut …\n${"c".repeat(30)}`,
    );
  });

  test("splits no surrogate pair, wherever it cuts", () => {
    for (let most = 2; most < 40; most++) {
      expect(cut("😀".repeat(30), most).isWellFormed()).toBe(true);
    }
  });
});

test("words are counted in any script", () => {
  expect(words("Two words, isn't it?")).toBe(4);
  expect(words("これはペンです")).toBeGreaterThan(2);
  expect(words("  ")).toBe(0);
});

test("oneLine makes one line", () => {
  expect(oneLine(" a\n\t b  c\n")).toBe("a b c");
});

test("dedent removes what all lines share", () => {
  expect(dedent("\n    a\n      b\n\n    c\n  ")).toBe("a\n  b\n\nc");
  expect(dedent(" \n ")).toBe("");
});

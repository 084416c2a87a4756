import { describe, expect, test } from "bun:test";
import {
  applyUnifiedDiff,
  generateUnifiedDiff,
  replaceAllText,
  replaceText,
  replaceTextFuzzy,
} from "tools/edit";

describe("replaceText", () => {
  test("replaces the one match, and takes $& for what it is", () => {
    expect(replaceText("a b c", "b", "$&")).toBe("a $& c");
  });

  test("refuses no match, several, overlapping ones and an empty search", () => {
    expect(() => replaceText("abc", "x", "")).toThrow('"x" is not in the text');
    expect(() => replaceText("a\nb\na", "a", "")).toThrow("lines 1 and 3");
    expect(() => replaceText("aaa", "aa", "")).toThrow("several places");
    expect(() => replaceText("abc", "", "x")).toThrow("empty");
  });
});

test("replaceAllText replaces every match and refuses none", () => {
  expect(replaceAllText("a.a.a", ".", "$1")).toBe("a$1a$1a");
  expect(() => replaceAllText("abc", "x", "")).toThrow("not in the text");
});

describe("replaceTextFuzzy", () => {
  const text = "class A {\n    run( )  {\n        go();\n    }\n}\n";

  test("finds lines whatever their white space and keeps their indentation", () => {
    expect(replaceTextFuzzy(text, "\nrun( ) {\n  go();\n", "run() {\n    await go();\n")).toBe(
      "class A {\n    run() {\n        await go();\n    }\n}\n",
    );
  });

  test("refuses what is not there or there twice", () => {
    expect(() => replaceTextFuzzy(text, "walk()", "")).toThrow("not in the text");
    expect(() => replaceTextFuzzy("a\n a\n", "a", "b")).toThrow("lines 1, 2");
    expect(() => replaceTextFuzzy(text, " \n", "b")).toThrow("empty");
  });
});

describe("unified diffs", () => {
  const before = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n";

  test("a diff is written as diff -u writes it", () => {
    const after = before.replace("two\n", "2\n").replace("nine\n", "nine\nten\n");
    expect(generateUnifiedDiff(before, after, { path: "n.txt", context: 1 })).toBe(
      [
        "--- a/n.txt", "+++ b/n.txt",
        "@@ -1,3 +1,3 @@", " one", "-two", "+2", " three",
        "@@ -9 +9,2 @@", " nine", "+ten", "",
      ].join("\n"),
    );
  });

  test("equal texts have no diff", () => {
    expect(generateUnifiedDiff(before, before)).toBe("");
  });

  test("applying tells what it did", () => {
    const diff = "@@ -2,2 +2,3 @@\n two\n-three\n+3\n+3b\n";
    expect(applyUnifiedDiff(before, diff)).toEqual({
      text: before.replace("three\n", "3\n3b\n"),
      appliedHunks: 1,
      added: 2,
      removed: 1,
    });
  });

  test("a hunk with wrong line numbers goes to the one place it fits", () => {
    const diff = "@@ -40,2 +40,2 @@\n seven\n-eight\n+8\n";
    expect(applyUnifiedDiff(before, diff).text).toBe(before.replace("eight", "8"));
  });

  test("a context line that differs is refused and named", () => {
    const diff = "@@ -1,2 +1,2 @@\n one\n-zwei\n+2\n";
    expect(() => applyUnifiedDiff(before, diff)).toThrow(
      'hunk 1 does not fit: line 2 should be "zwei\\n", but "two\\n"',
    );
    expect(() => applyUnifiedDiff("x\nx\n", "@@ -9 +9 @@\n-x\n+y\n")).toThrow("hunk 1");
  });

  test("a diff without hunks or with too few lines is refused", () => {
    expect(() => applyUnifiedDiff(before, "nothing")).toThrow("no hunk");
    expect(() => applyUnifiedDiff(before, "@@ -1,3 +1,3 @@\n one\n")).toThrow("number of lines");
  });

  test("removed lines that look like headers are lines", () => {
    const old = "-- a comment\n@@ -1 +1 @@\n";
    const diff = generateUnifiedDiff(old, "new\n");
    expect(applyUnifiedDiff(old, diff).text).toBe("new\n");
  });

  test("what is generated applies, for every pair of texts tried", () => {
    let seed = 1;
    const random = (below: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    const text = () => {
      const lines = Array.from({ length: random(12) }, () => "abc"[random(3)]);
      return lines.join("\n") + (random(2) ? "\n" : "");
    };
    for (let round = 0; round < 3000; round++) {
      const [from, to, context] = [text(), text(), random(4)];
      const diff = generateUnifiedDiff(from, to, { context });
      if (from !== to) expect(applyUnifiedDiff(from, diff).text).toBe(to);
    }
  });
});

import { expect, test } from "bun:test";
import { buildPrompt, PromptBuilder } from "core/prompt-builder";

test("higher priority comes first, equal ones keep their order", () => {
  expect(
    buildPrompt([
      { id: "c", priority: 1, content: "third" },
      { id: "a", priority: 9, content: " first\n" },
      { id: "d", priority: 1, content: "fourth" },
      { id: "b", priority: 5, content: "second" },
    ]),
  ).toBe("first\n\nsecond\n\nthird\n\nfourth");
});

test("empty blocks leave no gap", () => {
  expect(buildPrompt([{ id: "a", priority: 1, content: " \n" }])).toBe("");
});

test("a block set again replaces the one before, and can be removed", () => {
  const builder = new PromptBuilder()
    .set({ id: "role", priority: 1, content: "old" })
    .set({ id: "rules", priority: 2, content: "rules" })
    .set({ id: "role", priority: 3, content: "new" });
  expect(builder.build()).toBe("new\n\nrules");
  expect(builder.remove("rules").build()).toBe("new");
});

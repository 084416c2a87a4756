import { expect, test } from "bun:test";

test("PROMPT.ts names what every agent has to know", async () => {
  const home = process.env.HOME_TEMPLATE ?? "";
  const child = Bun.spawn([process.execPath, "--no-install", "PROMPT.ts"], { cwd: home });
  const prompt = await new Response(child.stdout).text();
  for (const word of ["exec", "globalThis.result", "core/", "tools/edit", "await_task"]) {
    expect(prompt).toContain(word);
  }
  expect(prompt.length).toBeLessThan(3000);
});

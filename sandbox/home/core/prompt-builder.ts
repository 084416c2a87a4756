/** A part of a prompt. Higher `priority` comes first; equal ones keep their order. */
export interface PromptBlock {
  id: string;
  priority: number;
  content: string;
}

/** Join blocks into a prompt, a blank line between two; empty ones are left out. */
export function buildPrompt(blocks: readonly PromptBlock[]): string {
  return [...blocks]
    .sort((one, other) => other.priority - one.priority)
    .map((block) => block.content.trim())
    .filter((content) => content !== "")
    .join("\n\n");
}

/** Collects blocks by id: setting one again replaces it, wherever it was set before. */
export class PromptBuilder {
  readonly #blocks = new Map<string, PromptBlock>();

  set(block: PromptBlock): this {
    this.#blocks.set(block.id, block);
    return this;
  }

  remove(id: string): this {
    this.#blocks.delete(id);
    return this;
  }

  build(): string {
    return buildPrompt([...this.#blocks.values()]);
  }
}

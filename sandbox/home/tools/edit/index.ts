// Edits of text, without files: read the text, edit it, write it back.
// Every edit that does not fit throws an error that says what was looked for.
export { replaceAllText, replaceText, replaceTextFuzzy } from "./replace";
export { applyUnifiedDiff, generateUnifiedDiff } from "./diff";
export type { AppliedDiff, DiffOptions } from "./diff";

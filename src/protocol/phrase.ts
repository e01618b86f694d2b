/** Says in words what a schema has found wrong with a field. */
import type * as v from "valibot";

/** Goes after the field's name. Messages of our own schemas are phrases; the library's speak of what it expected and received. */
export function phraseOf(issue: v.BaseIssue<unknown>): string {
  if (!issue.message.startsWith("Invalid ")) return issue.message;
  if (issue.received === "undefined") return "is missing";
  return issue.expected === null ? "is invalid" : `must be ${issue.expected}`;
}

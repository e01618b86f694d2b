/** Writes the configuration that is in force as YAML for people, secrets masked. */
import { type Key, root, type Section } from "./keys.ts";
import type { Config } from "./schema.ts";
import { masked, written } from "./text.ts";

/** @returns a whole file: every setting, and behind those that were given a comment with where they came from */
export function printConfig({ config, origins }: { config: Config; origins: ReadonlyMap<string, string> }): string {
  const lines: string[] = [];
  const add = (section: Section, values: Record<string, unknown>, depth: number) => {
    for (const [name, child] of section.children) {
      const value = values[name];
      const indent = "  ".repeat(depth);
      if (child.kind === "section" && value !== null && value !== undefined) {
        lines.push(`${indent}${name}:`);
        add(child, value as Record<string, unknown>, depth + 1);
      } else {
        const origin = origins.get(child.name);
        const text = child.kind === "section" ? "null" : scalar(child, value);
        lines.push(`${indent}${name}: ${text}${origin === undefined ? "" : `  # ${origin}`}`);
      }
    }
  };
  add(root, config, 0);
  return `${lines.join("\n")}\n`;
}

function scalar(key: Key, value: unknown): string {
  return Bun.YAML.stringify(escaped(masked(key, written(key, value))));
}

/** A file would replace `${NAME}`: what stands here has been replaced already. */
function escaped(value: unknown): unknown {
  if (typeof value === "string") return value.replaceAll("${", () => "$${");
  if (Array.isArray(value)) return value.map(escaped);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [escaped(name), escaped(item)]));
}

/** Renders the AsyncAPI document as one page that needs nothing beside it: `npm run generate` writes docs/asyncapi.html. */
import { join } from "node:path";
import packageFile from "../../package.json" with { type: "json" };
import { type AsyncApi, asyncApi, type JsonSchema, type Message } from "./asyncapi.ts";

const escaped = (text: string) => Bun.escapeHTML(text);
const anchorOf = (key: string) => key.replaceAll(".", "-");

export function asyncApiPage({ info, operations, components }: AsyncApi): string {
  const { messages } = components;
  const listed = (side: string) => Object.entries(messages).filter(([key]) => key.startsWith(`${side}.`));
  const contents = (side: string) =>
    listed(side)
      .map(([key, { name }]) => `<li><a href="#${anchorOf(key)}">${escaped(name)}</a></li>`)
      .join("\n");
  const answers = (key: string) => {
    const { reply } = (operations[key.slice("client.".length)] ?? {}) as { reply?: { messages: { $ref: string }[] } };
    return (reply?.messages ?? []).map(({ $ref }) => $ref.split("/").at(-1)!);
  };
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escaped(info.title)} ${escaped(info.version)}: every message</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  nav { columns: 14rem; } ul { padding-left: 1.2rem; } h3 { margin-top: 3rem; }
  code, pre { font: .9em/1.5 ui-monospace, monospace; } pre { overflow-x: auto; padding: .75rem; border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: .4rem; }
  table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
</style>
<h1>${escaped(info.title)}: every message</h1>
<p>${escaped(info.description)} <a href="protocol.md">It is here</a>; <code>ws-service asyncapi</code> prints this page's source.</p>
<h2>From clients</h2><nav><ul>
${contents("client")}
</ul></nav>
<h2>From the service</h2><nav><ul>
${contents("server")}
</ul></nav>
${Object.entries(messages)
  .map(([key, message]) => sectionOf(key, message, answers(key)))
  .join("\n")}
</html>
`;
}

function sectionOf(key: string, { name, title, description, payload, examples }: Message, answers: string[]): string {
  const fields = (payload.properties as Record<string, JsonSchema>).payload!;
  const links = answers.map((it) => `<a href="#${anchorOf(it)}">${escaped(it.slice("server.".length))}</a>`);
  const shown = examples.map(({ payload }) => `<pre>${escaped(JSON.stringify(payload, null, 2))}</pre>`);
  return `<h3 id="${anchorOf(key)}"><code>${escaped(name)}</code></h3>
<p>${escaped(title.slice(name.length + 1))}${links.length > 0 ? `; answered by ${links.join(", ")}` : ""}</p>
${Bun.markdown.html(description)}
<ul>${fieldsOf(fields)}</ul>
${shown.join("\n")}`;
}

function fieldsOf(schema: JsonSchema): string {
  const required = new Set((schema.required as string[] | undefined) ?? []);
  const own = Object.entries((schema.properties as Record<string, JsonSchema> | undefined) ?? {}).map(
    ([name, field]) => `<li><code>${escaped(name)}</code>${required.has(name) ? "" : "?"}: ${typeOf(field)}</li>`,
  );
  const options = (schema.anyOf as JsonSchema[] | undefined) ?? [];
  return [...own, ...options.map((option) => `<li>one of: ${typeOf(option)}</li>`)].join("\n");
}

function typeOf(schema: JsonSchema): string {
  const { type, anyOf, enum: names, items, minLength, maxLength, minimum, maximum, maxItems, default: usual } = schema;
  if (schema.const !== undefined) return `<code>${escaped(JSON.stringify(schema.const))}</code>`;
  if (names !== undefined)
    return (names as unknown[]).map((it) => `<code>${escaped(JSON.stringify(it))}</code>`).join(" | ");
  if (anyOf !== undefined) return (anyOf as JsonSchema[]).map(typeOf).join(" | ");
  const bounds = [
    maxLength === undefined ? "" : `${minLength ?? 0}–${maxLength} characters`,
    maxItems === undefined ? "" : `at most ${maxItems}`,
    maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? "" : `${minimum ?? 0}–${maximum}`,
    usual === undefined ? "" : `${JSON.stringify(usual)} where left out`,
  ].filter((it) => it !== "");
  const inner = schema.properties === undefined ? "" : `<ul>${fieldsOf(schema)}</ul>`;
  const of = items === undefined ? "" : ` of ${typeOf(items as JsonSchema)}`;
  return `${escaped(String(type ?? "anything"))}${of}${bounds.length > 0 ? ` (${escaped(bounds.join(", "))})` : ""}${inner}`;
}

if (import.meta.main)
  await Bun.write(join(import.meta.dir, "../../docs/asyncapi.html"), asyncApiPage(asyncApi(packageFile.version)));

/** Lists the settings: read off the schema once, so that no second table can disagree with it. */
import { configSchema } from "./schema.ts";
import { durations, listenAddress, ratio, size, whether } from "./values.ts";

type Kind = "text" | "whole" | "boolean" | "choice" | "list" | "duration" | "size" | "address" | "map" | "ratio";

export interface Key {
  kind: Kind;
  path: readonly string[];
  /** The path as people write it: `rate_limits.call.ice.burst`. */
  name: string;
  /** The environment variable that sets it: `WS__RATE_LIMITS__CALL_ICE__BURST`. */
  variable: string;
  nullable: boolean;
  /** Expectation of a value: `must be true or false`. */
  expected: string;
  /** As it would be written in a file; undefined where the setting must be given. */
  fallback: unknown;
  /** `whole`: never shown. `url`: shown without its password. */
  secret: "no" | "whole" | "url";
  /** The setting that the file which is named here holds: `auth.secret` of `auth.secret_file`; null for other settings. */
  holds: string | null;
}

export interface Section {
  kind: "section";
  path: readonly string[];
  name: string;
  /** Leaving it out means null, not its defaults. */
  nullable: boolean;
  children: ReadonlyMap<string, Section | Key>;
}

/** As much of a valibot schema as is read here. */
interface Schema {
  type: string;
  wrapped?: Schema;
  default?: unknown;
  message?: unknown;
  entries?: Record<string, Schema>;
  options?: readonly string[];
  item?: Schema;
}

const secrets: Record<string, Key["secret"]> = {
  "auth.secret": "whole",
  "auth.service_secret": "whole",
  "auth.jwks_url": "url",
  "operations.token": "whole",
  "traces.endpoint": "url",
  "traces.headers": "whole",
  "storage.url": "url",
  "cluster.url": "url",
};

function kindOf(schema: Schema): Kind {
  if (durations.has(schema)) return "duration";
  if ((schema as unknown) === size) return "size";
  if ((schema as unknown) === listenAddress) return "address";
  if ((schema as unknown) === whether) return "choice";
  if ((schema as unknown) === ratio) return "ratio";
  switch (schema.type) {
    case "string":
      return "text";
    case "number":
      return "whole";
    case "boolean":
      return "boolean";
    case "picklist":
      return "choice";
    case "array":
      return "list";
    case "record":
      return "map";
    default:
      throw new Error(`a setting of type ${schema.type} cannot be read from text`);
  }
}

function expectedOf(schema: Schema): string {
  if (typeof schema.message === "string") return schema.message;
  switch (schema.type) {
    case "boolean":
      return "must be true or false";
    case "picklist":
      return `must be one of ${schema.options!.join(", ")}`;
    case "array":
      return `must be a list of ${schema.item?.options?.join(", ") ?? "text"}`;
    default:
      return "must be text";
  }
}

function read(schema: Schema, path: readonly string[]): Section | Key {
  let inner = schema;
  let nullable = false;
  while (inner.wrapped !== undefined) {
    nullable ||= inner.type === "nullable";
    inner = inner.wrapped;
  }
  const name = path.join(".");
  if (inner.entries !== undefined) {
    const children = Object.entries(inner.entries).map(([key, child]) => [key, read(child, [...path, key])] as const);
    return { kind: "section", path, name, nullable, children: new Map(children) };
  }
  return {
    kind: kindOf(inner),
    path,
    name,
    variable: ["WS", ...path.map((part) => part.toUpperCase().replaceAll(".", "_"))].join("__"),
    nullable,
    expected: `${expectedOf(inner)}${nullable ? ", or null" : ""}`,
    fallback: schema.default,
    secret: secrets[name] ?? "no",
    holds: Object.keys(secrets).find((secret) => name === `${secret}_file`) ?? null,
  };
}

export const root = read(configSchema as unknown as Schema, []) as Section;

function keysOf(section: Section): Key[] {
  return [...section.children.values()].flatMap((child) => (child.kind === "section" ? keysOf(child) : [child]));
}

export const keys: readonly Key[] = keysOf(root);
export const keysByName: ReadonlyMap<string, Key> = new Map(keys.map((key) => [key.name, key]));

/** Walks the payload schemas: every field with its path, what it must never be, and arbitraries of what it may be. */
import fc from "fast-check";

/** The parts of a schema that are looked at; the library's own types are one for each kind. */
export interface AnySchema {
  type: string;
  wrapped?: AnySchema;
  pipe?: AnySchema[];
  entries?: Record<string, AnySchema>;
  item?: AnySchema;
  key?: AnySchema;
  value?: AnySchema;
  options?: (AnySchema | string)[];
  literal?: unknown;
  requirement?: unknown;
}

export interface FieldOfSchema {
  /** `["filters", "conversation_ids", "0"]` */
  path: string[];
  schema: AnySchema;
  isRequired: boolean;
}

const wrappers = new Set(["optional", "nullable", "nullish"]);

export function unwrapped(schema: AnySchema): AnySchema {
  if (wrappers.has(schema.type)) return unwrapped(schema.wrapped!);
  // An object that is first checked to be none of the library's other ideas of one.
  const shaped = schema.type === "custom" && schema.pipe?.find(({ type }) => type === "object" || type === "record");
  return shaped ? shaped : schema;
}

/** Every field below a schema, also those of items, map values and the options of unions. */
export function fieldsOf(schema: AnySchema, path: string[] = []): FieldOfSchema[] {
  const inner = unwrapped(schema);
  const child = (name: string, of: AnySchema, isRequired: boolean): FieldOfSchema[] => {
    const at = [...path, name];
    return [{ path: at, schema: of, isRequired }, ...fieldsOf(of, at)];
  };
  switch (inner.type) {
    case "object":
      return Object.entries(inner.entries!).flatMap(([name, of]) => child(name, of, of.type !== "optional"));
    case "array":
      return child("0", inner.item!, false);
    case "record":
      // A record that applications fill as they like has no wrong values.
      return inner.value!.type === "unknown" ? [] : child("*", inner.value!, false);
    case "union":
      return inner.options!.flatMap((option) => fieldsOf(option as AnySchema, path));
    default:
      return [];
  }
}

const samples: Record<string, unknown[]> = {
  string: ["text"],
  number: [7, -1, 1.5, 1e300],
  boolean: [true, false],
  null: [null],
  array: [[], [null], [["nested"]]],
  object: [{}, { other: 1 }],
};
const kindsTaken: Record<string, string> = {
  string: "string",
  picklist: "string",
  number: "number",
  boolean: "boolean",
  array: "array",
  object: "object",
  record: "object",
  custom: "object",
};

function kindsOf(schema: AnySchema): Set<string> {
  const inner = unwrapped(schema);
  const kinds =
    inner.type === "union"
      ? new Set(inner.options!.flatMap((option) => [...kindsOf(option as AnySchema)]))
      : new Set([inner.type === "literal" ? typeof inner.literal : kindsTaken[inner.type]!]);
  for (let at = schema; wrappers.has(at.type); at = at.wrapped!) if (at.type !== "optional") kinds.add("null");
  return kinds;
}

/** Values of every JSON type that the field does not take. */
export function wrongTypes(schema: AnySchema): unknown[] {
  const taken = kindsOf(schema);
  return Object.entries(samples).flatMap(([kind, values]) => (taken.has(kind) ? [] : values));
}

/** Values of the right type that break the schema's own rules: too long, too many, out of range, not of the list. */
export function wrongValues(schema: AnySchema): unknown[] {
  const inner = unwrapped(schema);
  const rules = (inner.pipe ?? []).slice(1);
  const ruled = rules.flatMap(({ type, requirement }): unknown[] => {
    const number = Number(requirement);
    switch (type) {
      case "min_length":
        return [inner.type === "array" ? [] : ""];
      case "max_length":
        return [inner.type === "array" ? new Array(number + 1).fill("x") : "x".repeat(number + 1)];
      case "regex":
        return ["white space", "ü", "line\n", "\u0000"];
      case "min_value":
        return [number - 1, -Number.MAX_SAFE_INTEGER];
      case "max_value":
        return [number + 1];
      case "safe_integer":
        return [1.5, 2 ** 53, -0.1, 1e300];
      case "uuid":
        return ["", "5a0d3b54", "5a0d3b54-7d0e-4f0e-9c33-0d2f6a1c9e1g", "x".repeat(36)];
      case "iso_timestamp":
        return ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-02"];
      default:
        return [];
    }
  });
  if (inner.type === "picklist") return ["", "Online", "no such thing", "constructor", "__proto__"];
  if (inner.type === "literal") return typeof inner.literal === "boolean" ? [!inner.literal] : ["another"];
  return ruled;
}

/** Puts a value at a path, in a copy; null where an example has no parent for it. */
export function withValue(example: unknown, path: string[], value: unknown): Record<string, unknown> | null {
  const copy = structuredClone(example) as Record<string, unknown>;
  let at: any = copy;
  for (const name of path.slice(0, -1)) {
    at = at[name === "*" ? (Object.keys(at)[0] ?? "") : name];
    if (typeof at !== "object" || at === null) return null;
  }
  const last = path.at(-1)!;
  const key = last === "*" ? Object.keys(at)[0] : last;
  if (key === undefined) return null;
  if (Array.isArray(at) !== (last === "0")) return null;
  if (value === undefined && Array.isArray(at)) at.shift();
  else if (value === undefined) delete at[key];
  else at[key] = value;
  return copy;
}

const identifierLike = fc.stringMatching(/^[!-~]{1,20}$/);

/** Values that a schema takes, mostly; some break a rule of it, which has to be answered just as well. */
export function arbitraryOf(given: AnySchema): fc.Arbitrary<unknown> {
  if (given.type === "optional") return fc.option(arbitraryOf(given.wrapped!), { nil: undefined });
  if (given.type === "nullable") return fc.option(arbitraryOf(given.wrapped!), { nil: null });
  const schema = unwrapped(given);
  switch (schema.type) {
    case "object":
      return fc.record(Object.fromEntries(Object.entries(schema.entries!).map(([key, of]) => [key, arbitraryOf(of)])));
    case "array":
      return fc.array(arbitraryOf(schema.item!), { minLength: 1, maxLength: 4 });
    case "record":
      return schema.value!.type === "unknown"
        ? fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }), { maxKeys: 4 })
        : fc.dictionary(identifierLike, arbitraryOf(schema.value!), { maxKeys: 3 });
    case "custom":
      return fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }), { maxKeys: 4 });
    case "union":
      return fc.oneof(...schema.options!.map((option) => arbitraryOf(option as AnySchema)));
    case "picklist":
      return fc.constantFrom(...schema.options!);
    case "literal":
      return fc.constant(schema.literal);
    case "boolean":
      return fc.boolean();
    case "number":
      return fc.oneof(fc.nat({ max: 50 }), fc.maxSafeNat());
    case "string":
      return arbitraryText(schema.pipe?.slice(1) ?? []);
    default:
      throw new Error(`no arbitrary for ${schema.type}`);
  }
}

/** Few names, so that requests meet each other's conversations, users and calls. */
function arbitraryText(rules: AnySchema[]): fc.Arbitrary<string> {
  const types = rules.map(({ type }) => type);
  if (types.includes("uuid")) return fc.constantFrom("5a0d3b54-7d0e-4f0e-9c33-0d2f6a1c9e10", crypto.randomUUID());
  if (types.includes("iso_timestamp")) return fc.date({ noInvalidDate: true }).map((date) => date.toISOString());
  if (types.includes("regex")) return fc.oneof(fc.constantFrom("u1", "u2", "c1", "c2", "notification"), identifierLike);
  return fc.oneof(
    fc.constantFrom("conversation", "typing", "presence", "user", "calls", "conversation:c1", "presence:u2", "user:u1"),
    fc.string({ minLength: 1, maxLength: 32 }),
    fc.string({ unit: "binary", minLength: 1, maxLength: 32 }),
  );
}

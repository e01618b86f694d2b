/** Turns typed messages into the plain data of the JSON form and back, led by the schema alone. */
import {
  create,
  type DescField,
  type DescMessage,
  fromJson,
  getOption,
  hasOption,
  type JsonValue,
  type Message,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "@bufbuild/protobuf/wkt";
import { isPlainObject } from "../envelope.ts";
import { is_list, null_if_absent, whole_text } from "./ws-service_pb.ts";

/** How one field stands in the plain form; the names are the ones of the JSON payloads. */
interface Field {
  name: string;
  localName: string;
  kind: "one" | "list" | "map";
  nullIfAbsent: boolean;
  /** The text that stands for the whole message where this field is true. */
  wholeText: string | null;
  item: Item;
}

type Item = { kind: "text" | "flag" | "number" | "object" | "any" } | { kind: "message"; desc: DescMessage };

interface Shape {
  isList: boolean;
  fields: Field[];
  names: Set<string>;
}

const shapes = new WeakMap<DescMessage, Shape>();

function shapeOf(desc: DescMessage): Shape {
  let shape = shapes.get(desc);
  if (shape === undefined) {
    const fields = desc.fields.map(fieldOf);
    shape = { isList: getOption(desc, is_list), fields, names: new Set(fields.map((field) => field.name)) };
    shapes.set(desc, shape);
  }
  return shape;
}

function fieldOf(field: DescField): Field {
  return {
    name: field.name,
    localName: field.localName,
    kind: field.fieldKind === "list" || field.fieldKind === "map" ? field.fieldKind : "one",
    nullIfAbsent: getOption(field, null_if_absent),
    wholeText: hasOption(field, whole_text) ? getOption(field, whole_text) : null,
    item: itemOf(field),
  };
}

function itemOf(field: DescField): Item {
  if (field.message) {
    if (field.message.typeName === "google.protobuf.Struct") return { kind: "object" };
    if (field.message.typeName === "google.protobuf.Value") return { kind: "any" };
    return { kind: "message", desc: field.message };
  }
  switch (field.scalar) {
    case ScalarType.STRING:
      return { kind: "text" };
    case ScalarType.BOOL:
      return { kind: "flag" };
    case ScalarType.UINT64:
      return { kind: "number" };
    default:
      throw new TypeError(`${field} has no plain form`);
  }
}

/**
 * The plain form of a message, as JSON.parse gives it for the same payload.
 * @throws RangeError where a number is above 2^53 - 1, Error where a Value holds nothing
 */
export function toPlain(desc: DescMessage, message: Message): unknown {
  const shape = shapeOf(desc);
  const source = message as unknown as Record<string, unknown>;
  const plain: Record<string, unknown> = {};
  for (const { name, localName, kind, nullIfAbsent, wholeText, item } of shape.fields) {
    const value = source[localName];
    if (kind === "list") {
      const list = (value as unknown[]).map((it) => itemToPlain(item, it));
      if (shape.isList) return list;
      plain[name] = list;
    } else if (kind === "map") {
      const entries = Object.entries(value as object).map(([key, it]) => [key, itemToPlain(item, it)]);
      if (entries.length > 0) plain[name] = Object.fromEntries(entries);
    } else if (value === undefined) {
      if (nullIfAbsent) plain[name] = null;
    } else if (wholeText === null) plain[name] = itemToPlain(item, value);
    else if (value === true) return wholeText;
  }
  return plain;
}

function itemToPlain(item: Item, value: unknown): unknown {
  switch (item.kind) {
    case "number":
      if ((value as bigint) > Number.MAX_SAFE_INTEGER) throw new RangeError("a number is above 2^53 - 1");
      return Number(value);
    case "any":
      return toJson(ValueSchema, value as Value);
    case "message":
      return toPlain(item.desc, value as Message);
    default:
      return value;
  }
}

/** The message whose plain form is exactly `plain`; undefined where the message cannot say all of it. */
export function fromPlain(desc: DescMessage, plain: unknown): Message | undefined {
  const shape = shapeOf(desc);
  const init: Record<string, unknown> = {};
  if (shape.isList) {
    const [{ localName, item }] = shape.fields as [Field];
    return (init[localName] = listFromPlain(item, plain)) === undefined ? undefined : create(desc, init);
  }
  if (typeof plain === "string") {
    const whole = shape.fields.find((field) => field.wholeText === plain);
    return whole && create(desc, { [whole.localName]: true } as Record<string, unknown>);
  }
  if (!isPlainObject(plain)) return undefined;
  for (const name in plain) if (!shape.names.has(name)) return undefined;
  for (const field of shape.fields) {
    const { localName, kind, nullIfAbsent, item } = field;
    const value = Object.hasOwn(plain, field.name) ? plain[field.name] : undefined;
    if (value === undefined) {
      if (kind === "list" || nullIfAbsent) return undefined;
    } else if (value !== null || !nullIfAbsent) {
      // True would be read as the whole text, false as nothing at all.
      if (field.wholeText !== null) return undefined;
      init[localName] =
        kind === "list"
          ? listFromPlain(item, value)
          : kind === "map"
            ? mapFromPlain(item, value)
            : itemFromPlain(item, value);
      if (init[localName] === undefined) return undefined;
    }
  }
  return create(desc, init);
}

function listFromPlain(item: Item, plain: unknown): unknown[] | undefined {
  if (!Array.isArray(plain)) return undefined;
  const list = plain.map((it) => itemFromPlain(item, it));
  return list.includes(undefined) ? undefined : list;
}

function mapFromPlain(item: Item, plain: unknown): Record<string, unknown> | undefined {
  if (!isPlainObject(plain)) return undefined;
  const entries = Object.entries(plain).map(([key, it]) => [key, itemFromPlain(item, it)] as const);
  return entries.some(([, it]) => it === undefined) ? undefined : Object.fromEntries(entries);
}

function itemFromPlain(item: Item, plain: unknown): unknown {
  switch (item.kind) {
    case "text":
      return typeof plain === "string" ? plain : undefined;
    case "flag":
      return typeof plain === "boolean" ? plain : undefined;
    case "number":
      return Number.isSafeInteger(plain) && (plain as number) >= 0 ? BigInt(plain as number) : undefined;
    case "object":
      return isPlainObject(plain) ? plain : undefined;
    case "any":
      return fromJson(ValueSchema, plain as JsonValue);
    case "message":
      return fromPlain(item.desc, plain);
  }
}

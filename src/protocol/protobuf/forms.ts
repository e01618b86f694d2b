/** Says in which protobuf form a payload travels, from its valibot schema alone. */
import { WireType } from "@bufbuild/protobuf/wire";
import type * as v from "valibot";
import { freeObject } from "../fields.ts";
import { bare, type Part, partsOf } from "../schema-parts.ts";

/**
 * Names a type of protobuf's: `whole` is a uint64 of at most 2^53 - 1, `object` a Struct, `any` a Value, for what may be of
 * several types. Numbers are 0 until they are taken from the .proto file.
 */
export type Form =
  | { kind: "text" | "flag" | "whole" | "double" | "object" | "any" }
  | ListForm
  | { kind: "map"; item: Form }
  | MessageForm;

export interface ListForm {
  kind: "list";
  item: Form;
  /** Where the list may be absent it is a message, and this is the number of its one field. */
  number: number;
}

export interface MessageForm {
  kind: "message";
  fields: Map<string, FieldForm>;
  byNumber: Map<number, FieldForm>;
  /** Fields that are always there in the plain form. */
  always: FieldForm[];
  /** The text that may stand in place of the object: it travels as a flag of that name. */
  wholeText: string | null;
  /** Null may stand in place of the object, which may be absent too: it travels as a message with nothing in it. */
  isNullEmpty?: boolean;
  /** Where the form comes from: one schema has one message. */
  schema: unknown;
}

export interface FieldForm {
  name: string;
  number: number;
  form: Form;
  /** Says what the plain form has where the field is absent. */
  absent: "nothing" | "null" | "list" | "map";
}

export const anyForm: Form = { kind: "any" };

/** The numbers of google/protobuf/struct.proto, and those of a map's entries. */
export const valueNumber = { null: 1, number: 2, text: 3, flag: 4, object: 5, list: 6 } as const;
export const itemsNumber = 1;
export const entryNumber = { name: 1, value: 2 } as const;

export function wireTypeOf({ kind }: Form): WireType {
  if (kind === "whole" || kind === "flag") return WireType.Varint;
  return kind === "double" ? WireType.Bit64 : WireType.LengthDelimited;
}

/**
 * Gives the messages that a payload may be; more than one where its schema is a union of objects, none where it is free.
 * @throws TypeError where the schema has no form
 */
export function payloadForms(schema: v.GenericSchema): MessageForm[] {
  const whole = bare(schema as unknown as Part);
  const forms = (whole.type === "union" ? whole.options! : [whole]).map(formOf);
  return forms.filter((form) => form.kind === "message");
}

function formOf(schema: Part): Form {
  const inner = bare(schema);
  switch (inner.type) {
    case "string":
    case "picklist":
      return { kind: "text" };
    case "boolean":
      return { kind: "flag" };
    case "number":
      return { kind: isWhole(partsOf(schema)) ? "whole" : "double" };
    case "literal":
      return literalForm(inner.literal);
    case "array":
      return listForm(formOf(inner.item!));
    case "record":
      return mapForm(formOf(inner.value!));
    case "object":
      return messageOf(Object.entries(inner.entries!).map(fieldOf), inner);
    case "union":
      return unionForm(inner.options!.map(formOf), inner);
    case "custom":
      if (inner === (freeObject as unknown)) return { kind: "object" };
  }
  throw new TypeError(`A schema of type ${inner.type} has no form in protobuf.`);
}

const messageOf = (fields: FieldForm[], schema: unknown): MessageForm => ({
  kind: "message",
  fields: new Map(fields.map((field) => [field.name, field])),
  byNumber: new Map(),
  wholeText: null,
  always: fields.filter(({ absent }) => absent !== "nothing"),
  schema,
});

function isWhole(parts: Part[]): boolean {
  const isInteger = parts.some(({ type }) => type === "safe_integer" || type === "integer");
  return isInteger && parts.some(({ type, requirement }) => type === "min_value" && (requirement as number) >= 0);
}

function literalForm(literal: unknown): Form {
  if (typeof literal === "string") return { kind: "text" };
  if (typeof literal === "boolean") return { kind: "flag" };
  return { kind: Number.isSafeInteger(literal) && (literal as number) >= 0 ? "whole" : "double" };
}

/** Refuses lists and maps within each other, which would need a message for each level: what is so free is a Value. */
const isNestable = ({ kind }: Form) => kind !== "list" && kind !== "map" && kind !== "any";
const listForm = (item: Form): Form => (isNestable(item) ? { kind: "list", item, number: 0 } : { kind: "any" });
const mapForm = (item: Form): Form => (isNestable(item) ? { kind: "map", item } : { kind: "any" });

function unionForm(forms: Form[], schema: Part): Form {
  const [text, object] = forms;
  if (forms.every(({ kind }) => kind === "text")) return { kind: "text" };
  const literal = bare(schema.options![0]!).literal;
  if (forms.length === 2 && typeof literal === "string" && text?.kind === "text" && object?.kind === "message") {
    const flag = fieldForm(literal, { kind: "flag" }, "nothing");
    return { ...object, fields: new Map([[literal, flag], ...object.fields]), wholeText: literal };
  }
  return { kind: "any" };
}

function fieldOf([name, schema]: [string, Part]): FieldForm {
  const outer = bare(schema);
  const isOptional = outer.type === "optional";
  const inner = isOptional ? outer.wrapped! : schema;
  const isNullable = bare(inner).type === "nullable";
  const form = formOf(isNullable ? bare(inner).wrapped! : inner);
  if (isNullable && isOptional && form.kind === "message")
    return fieldForm(name, { ...form, isNullEmpty: true }, "nothing");
  // Null beside absent, and null beside empty, are more than the absence of a field can say.
  if (isNullable && (isOptional || !isNestable(form))) return fieldForm(name, { kind: "any" }, "nothing");
  if (isNullable) return fieldForm(name, form, "null");
  return fieldForm(name, form, !isOptional && (form.kind === "list" || form.kind === "map") ? form.kind : "nothing");
}

const fieldForm = (name: string, form: Form, absent: FieldForm["absent"]): FieldForm => ({
  name,
  number: 0,
  form,
  absent,
});

/** Writes plain data, as JSON.parse gives it, in its protobuf form. */
import { type BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { isPlainObject } from "../envelope.ts";
import { anyForm, entryNumber, type Form, itemsNumber, type MessageForm, valueNumber } from "./forms.ts";

/** Writes the fields of a message; false where it cannot say all that is in the data, and part of it may have been written. */
export function writeMessage(writer: BinaryWriter, form: MessageForm, plain: unknown): boolean {
  if (typeof plain === "string") {
    if (plain !== form.wholeText) return false;
    const { number, form: flag } = form.fields.get(plain)!;
    return writeField(writer, number, flag, true);
  }
  if (!isPlainObject(plain)) return false;
  let always = 0;
  for (const name in plain) {
    const item = plain[name];
    if (item === undefined) continue;
    const field = form.fields.get(name);
    // A flag that stands for a whole text would be read as that text.
    if (field === undefined || name === form.wholeText) return false;
    if (field.absent !== "nothing") always++;
    if (item === null && field.absent === "null") continue;
    const { number, form: itemForm } = field;
    const isWritten =
      field.absent === "list" && itemForm.kind === "list"
        ? writeItems(writer, number, itemForm.item, item)
        : writeField(writer, number, itemForm, item);
    if (!isWritten) return false;
  }
  return always === form.always.length;
}

/** Writes one field with its tag; false where it is of another form. */
export function writeField(writer: BinaryWriter, number: number, form: Form, plain: unknown): boolean {
  switch (form.kind) {
    case "text":
      if (typeof plain !== "string") return false;
      writer.tag(number, WireType.LengthDelimited);
      writer.string(plain);
      return true;
    case "flag":
      if (typeof plain !== "boolean") return false;
      writer.tag(number, WireType.Varint);
      writer.bool(plain);
      return true;
    case "whole":
      if (!Number.isSafeInteger(plain) || (plain as number) < 0) return false;
      writer.tag(number, WireType.Varint);
      // The same bytes; a bigint is made only where it must be.
      if ((plain as number) < 2 ** 32) writer.uint32(plain as number);
      else writer.uint64(plain as number);
      return true;
    case "double":
      if (typeof plain !== "number") return false;
      writer.tag(number, WireType.Bit64);
      writer.double(plain);
      return true;
    case "map":
      return isPlainObject(plain) && writeEntries(writer, number, form.item, plain);
  }
  writer.tag(number, WireType.LengthDelimited);
  writer.fork();
  const isWritten = writeInner(writer, form, plain);
  writer.join();
  return isWritten;
}

function writeInner(writer: BinaryWriter, form: Exclude<Form, { kind: "text" | "map" }>, plain: unknown): boolean {
  switch (form.kind) {
    case "message":
      return (plain === null && form.isNullEmpty === true) || writeMessage(writer, form, plain);
    case "list":
      return writeItems(writer, form.number, form.item, plain);
    case "object":
      return isPlainObject(plain) && writeEntries(writer, itemsNumber, anyForm, plain);
    default:
      writeValue(writer, plain);
      return true;
  }
}

function writeItems(writer: BinaryWriter, number: number, item: Form, plain: unknown): boolean {
  return Array.isArray(plain) && plain.every((it) => writeField(writer, number, item, it));
}

function writeEntries(writer: BinaryWriter, number: number, item: Form, plain: Record<string, unknown>): boolean {
  for (const name in plain) {
    if (plain[name] === undefined) continue;
    writer.tag(number, WireType.LengthDelimited);
    writer.fork();
    writer.tag(entryNumber.name, WireType.LengthDelimited);
    writer.string(name);
    if (!writeField(writer, entryNumber.value, item, plain[name])) return false;
    writer.join();
  }
  return true;
}

/** Writes what is in a google.protobuf.Value: whatever JSON can say. */
function writeValue(writer: BinaryWriter, plain: unknown): void {
  switch (typeof plain) {
    case "string":
      writer.tag(valueNumber.text, WireType.LengthDelimited);
      writer.string(plain);
      break;
    case "number":
      writer.tag(valueNumber.number, WireType.Bit64);
      writer.double(plain);
      break;
    case "boolean":
      writer.tag(valueNumber.flag, WireType.Varint);
      writer.bool(plain);
      break;
    default: {
      if (!plain) {
        writer.tag(valueNumber.null, WireType.Varint);
        writer.int32(0);
        break;
      }
      const isList = Array.isArray(plain);
      writer.tag(isList ? valueNumber.list : valueNumber.object, WireType.LengthDelimited);
      writer.fork();
      if (isList) writeItems(writer, itemsNumber, anyForm, plain);
      else writeEntries(writer, itemsNumber, anyForm, plain as Record<string, unknown>);
      writer.join();
    }
  }
}

/** Reads the protobuf form into plain data, as JSON.parse gives it, and stops at the limits of a message [ENV6]. */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { ProtocolError } from "../errors.ts";
import type { ShapeLimits } from "../json-text.ts";
import {
  anyForm,
  entryNumber,
  type FieldForm,
  type Form,
  itemsNumber,
  type MessageForm,
  valueNumber,
  wireTypeOf,
} from "./forms.ts";

type Plain = Record<string, unknown>;
type Tag = readonly [number: number, wireType: WireType];

/** Says where a value ends, and how many levels it may have, its own among them. */
interface Extent {
  end: number;
  depth: number;
}

/** Stands for the value of a map's entry that has none. */
const defaults: Partial<Record<Form["kind"], unknown>> = { text: "", flag: false, whole: 0, double: 0 };

/**
 * Reads one frame. Every method throws where the bytes are none, or are of more than the limits allow; a field that is of
 * another wire type than its form is passed over as one that is not known.
 */
export class PlainReader extends BinaryReader {
  private valuesLeft: number;

  constructor(
    bytes: Uint8Array,
    private readonly most: ShapeLimits,
  ) {
    super(bytes);
    this.valuesLeft = most.values;
  }

  /** Reads a field of a message; false where it is of another wire type. */
  field({ name, form, absent }: FieldForm, { tag, depth }: { tag: Tag; depth: number }, plain: Plain): boolean {
    const [, wireType] = tag;
    if (form.kind === "list" && absent === "list") {
      const items = (plain[name] ??= []) as unknown[];
      if (wireType === wireTypeOf(form.item)) items.push(this.item(form.item, depth - 2));
      else if (wireType === WireType.LengthDelimited) this.packed(form.item, items);
      else return false;
      return true;
    }
    if (wireType !== wireTypeOf(form)) return false;
    if (form.kind === "map") this.entry(form.item, depth - 1, (plain[name] ??= {}) as Plain);
    else plain[name] = this.item(form, depth - 1, plain[name]);
    return true;
  }

  /** Skips a field, which counts as a value, for it takes as long. */
  passOver([number, wireType]: Tag): void {
    this.count();
    if (wireType !== WireType.StartGroup) {
      this.skip(wireType);
      return;
    }
    let tag = this.tag();
    for (; tag[1] !== WireType.EndGroup; tag = this.tag()) this.passOver(tag);
    if (tag[0] !== number) throw new RangeError("a group ends that has not begun");
  }

  /** Says whether there is more of a value that ends at `end`; nothing in it may lead beyond. */
  isBefore(end: number): boolean {
    if (this.pos > end) throw new RangeError("a value leads beyond the end of what it is in");
    return this.pos < end;
  }

  /** Reads a value after its tag; `before` is what an earlier piece of the same has given. */
  item(form: Form, depth: number, before?: unknown): unknown {
    this.count();
    switch (form.kind) {
      case "text":
        return this.string(true);
      case "flag":
        return this.bool();
      case "whole":
        return this.whole();
      case "double":
        return this.finite();
      case "message": {
        const end = this.end();
        if (form.isNullEmpty && end === this.pos) return before ?? null;
        return this.message(form, { end, depth }, isStarted(before) ? before : {});
      }
      case "list":
        return this.list(form, { end: this.end(), depth }, Array.isArray(before) ? before : []);
      case "object":
        return this.object({ end: this.end(), depth }, isStarted(before) ? before : {});
      default:
        return this.value({ end: this.end(), depth });
    }
  }

  /** Reads a length; gives where what has it ends. */
  private end(): number {
    const length = this.uint32();
    return this.pos + length;
  }

  /** Reads a message into `plain`; gives the text that stands for it where it says so. */
  private message(form: MessageForm, { end, depth }: Extent, plain: Plain): Plain | string {
    this.enter(depth);
    while (this.isBefore(end)) {
      const tag = this.tag();
      const field = form.byNumber.get(tag[0]);
      if (field === undefined || !this.field(field, { tag, depth }, plain)) this.passOver(tag);
    }
    for (const { name, absent } of form.always) {
      if (plain[name] === undefined) plain[name] = absent === "null" ? null : absent === "list" ? [] : {};
    }
    if (form.wholeText === null) return plain;
    const isWhole = plain[form.wholeText] === true;
    delete plain[form.wholeText];
    return isWhole ? form.wholeText : plain;
  }

  /** Reads a google.protobuf.Struct into `plain`. */
  private object({ end, depth }: Extent, plain: Plain): Plain {
    this.enter(depth);
    while (this.isBefore(end)) {
      const [number, wireType] = this.tag();
      if (number === itemsNumber && wireType === WireType.LengthDelimited) this.entry(anyForm, depth, plain);
      else this.passOver([number, wireType]);
    }
    return plain;
  }

  private list({ item, number }: { item: Form; number: number }, { end, depth }: Extent, items: unknown[]): unknown[] {
    this.enter(depth);
    while (this.isBefore(end)) {
      const [found, wireType] = this.tag();
      if (found === number && wireType === wireTypeOf(item)) items.push(this.item(item, depth - 1));
      else if (found === number && wireType === WireType.LengthDelimited) this.packed(item, items);
      else this.passOver([found, wireType]);
    }
    return items;
  }

  /** Reads numbers or flags of a list that stand together behind one tag. */
  private packed(item: Form, items: unknown[]): void {
    const end = this.end();
    while (this.isBefore(end)) items.push(this.item(item, 0));
  }

  private entry(item: Form, depth: number, plain: Plain): void {
    const end = this.end();
    let name = "";
    let value = defaults[item.kind];
    for (let fields = 0; this.isBefore(end); fields++) {
      // A name and a value are usual, and the last of each is meant.
      if (fields > 1) this.count();
      const [number, wireType] = this.tag();
      const isName = number === entryNumber.name && wireType === WireType.LengthDelimited;
      if (isName) name = this.string(true);
      else if (number === entryNumber.value && wireType === wireTypeOf(item)) value = this.item(item, depth - 1);
      else this.passOver([number, wireType]);
    }
    if (value === undefined) throw new RangeError("an entry has no value");
    // Setting it would set the prototype.
    if (name === "__proto__") Object.defineProperty(plain, name, { ...ownProperty, value });
    else plain[name] = value;
  }

  /** Reads a google.protobuf.Value: the last of its fields, of which it usually has one. */
  private value({ end, depth }: Extent): unknown {
    let value: unknown;
    for (let fields = 0; this.isBefore(end); fields++) {
      if (fields > 0) this.count();
      const tag = this.tag();
      switch (wireTypesOfValue[tag[0]] === tag[1] ? tag[0] : 0) {
        case valueNumber.text:
          value = this.string(true);
          break;
        case valueNumber.number:
          value = this.finite();
          break;
        case valueNumber.flag:
          value = this.bool();
          break;
        case valueNumber.null:
          this.int32();
          value = null;
          break;
        case valueNumber.object:
          value = this.object({ end: this.end(), depth }, {});
          break;
        case valueNumber.list:
          value = this.list(listOfAny, { end: this.end(), depth }, []);
          break;
        default:
          this.passOver(tag);
      }
    }
    if (value === undefined) throw new RangeError("a Value holds nothing");
    return value;
  }

  private whole(): number {
    const whole = Number(this.uint64());
    if (whole > Number.MAX_SAFE_INTEGER) throw new RangeError("a number is above 2^53 - 1");
    return whole;
  }

  private finite(): number {
    const number = this.double();
    if (!Number.isFinite(number)) throw new ProtocolError("invalid_message", "A number must be finite.");
    return number;
  }

  private count(): void {
    if (this.valuesLeft-- > 0) return;
    throw new ProtocolError("invalid_message", `A message may have at most ${this.most.values} values.`);
  }

  private enter(depth: number): void {
    if (depth > 0) return;
    throw new ProtocolError("invalid_message", `A message may be nested at most ${this.most.depth} deep.`);
  }
}

const ownProperty = { enumerable: true, writable: true, configurable: true };
const isStarted = (value: unknown): value is Plain => typeof value === "object" && value !== null;
const listOfAny = { item: anyForm, number: itemsNumber };
const wireTypesOfValue: Partial<Record<number, WireType>> = {
  [valueNumber.null]: WireType.Varint,
  [valueNumber.number]: WireType.Bit64,
  [valueNumber.text]: WireType.LengthDelimited,
  [valueNumber.flag]: WireType.Varint,
  [valueNumber.object]: WireType.LengthDelimited,
  [valueNumber.list]: WireType.LengthDelimited,
};

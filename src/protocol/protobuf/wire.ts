/** Looks at a client's frame without decoding it: its id and type, and how many values it holds. */
import type { DescMessage } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { ClientFrameSchema } from "./ws-service_pb.ts";

const idField = ClientFrameSchema.field.id.number;
const typeField = ClientFrameSchema.field.type.number;
/** Fields of a frame that are looked at; an ordinary one has four. */
const fieldsMax = 64;
/** Levels that are followed; the decoder refuses fewer. */
const levelsMax = 100;

/** The id and the type of a frame, however long its payload is; of bytes that are no frame it may be anything. */
export function textsOfFrame(frame: Uint8Array): { id?: string; type?: string } {
  const found: { id?: string; type?: string } = {};
  const reader = new BinaryReader(frame);
  try {
    for (let fields = 0; fields < fieldsMax && reader.pos < reader.len; fields++) {
      const [field, wireType] = reader.tag();
      if (wireType === WireType.LengthDelimited && field === idField) found.id = reader.string();
      else if (wireType === WireType.LengthDelimited && field === typeField) found.type = reader.string();
      else if (wireType === WireType.StartGroup) break;
      else reader.skip(wireType, field);
    }
  } catch {
    // Not a frame: the decoder will say so.
  }
  return found;
}

/** What a message's fields lead to: the shape of each message within it, by the field's number. */
interface Shape {
  /** An entry of a map: a name, and the value in its second field. */
  isEntry: boolean;
  fields: Map<number, Shape | null>;
}
const mapValueField = 2;
const shapes = new Map<DescMessage, Shape>();

function shapeOf(desc: DescMessage): Shape {
  const known = shapes.get(desc);
  if (known !== undefined) return known;
  const shape: Shape = { isEntry: false, fields: new Map() };
  shapes.set(desc, shape);
  for (const { number, fieldKind, message } of desc.fields) {
    const inner = message === undefined ? null : shapeOf(message);
    const entry = { isEntry: true, fields: new Map([[mapValueField, inner]]) };
    shape.fields.set(number, fieldKind === "map" ? entry : inner);
  }
  return shape;
}

/** A value of free JSON is a field in what it is in, and has one that says of which kind it is. */
const fieldsOfValue = 2;

/** Whether a frame holds more values than `most`, if it is one; each of them costs the decoder as much as a long text. */
export function hasMoreValues(frame: Uint8Array, most: number): boolean {
  const fieldsMax = fieldsOfValue * most;
  // A field takes two bytes at least.
  if (frame.byteLength <= 2 * fieldsMax) return false;
  const reader = new BinaryReader(frame);
  let fields = 0;
  const count = (shape: Shape, end: number, level: number): void => {
    while (reader.pos < end && fields <= fieldsMax) {
      const [number, wireType] = reader.tag();
      const inner = wireType === WireType.LengthDelimited && level < levelsMax ? shape.fields.get(number) : null;
      // An entry of a map and its name are no values.
      const isPartOfMap = inner?.isEntry === true || (shape.isEntry && number !== mapValueField);
      if (!isPartOfMap) fields++;
      if (!inner) reader.skip(wireType, number);
      else {
        const length = reader.uint32();
        count(inner, reader.pos + length, level + 1);
      }
    }
  };
  try {
    count(shapeOf(ClientFrameSchema), reader.len, 0);
  } catch {
    // Not a frame: the decoder will say so.
  }
  return fields > fieldsMax;
}

/** Looks at a client's frame without decoding it: its id and type, and how many values it holds. */
import type { DescMessage } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
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

/** What a message's fields lead to: the schema of each, by its number. A map's entry has its value in field 2. */
type Shape = Map<number, { shape: Shape | null; counts: boolean }>;
const shapes = new Map<DescMessage, Shape>();

function shapeOf(desc: DescMessage): Shape {
  const known = shapes.get(desc);
  if (known !== undefined) return known;
  const shape: Shape = new Map();
  shapes.set(desc, shape);
  // A value's own field says only of which kind it is.
  const isHull = desc.typeName === ValueSchema.typeName;
  for (const field of desc.fields) {
    const inner = field.message === undefined ? null : shapeOf(field.message);
    if (field.fieldKind === "map") {
      const entry: Shape = new Map([[2, { shape: inner, counts: true }]]);
      shape.set(field.number, { shape: entry, counts: false });
    } else shape.set(field.number, { shape: inner, counts: !isHull });
  }
  return shape;
}

/** Whether a frame holds more values than `most`, if it is one; each of them costs the decoder as much as a long text. */
export function hasMoreValues(frame: Uint8Array, most: number): boolean {
  // A value takes two bytes at least.
  if (frame.byteLength <= 2 * most) return false;
  const reader = new BinaryReader(frame);
  let values = 0;
  const count = (shape: Shape, end: number, level: number): void => {
    while (reader.pos < end && values <= most) {
      const [number, wireType] = reader.tag();
      const field = shape.get(number);
      if (field === undefined || field.counts || wireType !== WireType.LengthDelimited) values++;
      if (field?.shape && wireType === WireType.LengthDelimited && level < levelsMax) {
        const length = reader.uint32();
        count(field.shape, reader.pos + length, level + 1);
      } else reader.skip(wireType, number);
    }
  };
  try {
    count(shapeOf(ClientFrameSchema), reader.len, 0);
  } catch {
    // Not a frame: the decoder will say so.
  }
  return values > most;
}

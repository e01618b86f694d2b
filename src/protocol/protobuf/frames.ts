/** Gives the forms of all payloads their names and numbers, which stand in the .proto file. */
import * as v from "valibot";
import { clientPayloads } from "../client.ts";
import { requestEnvelope } from "../envelope.ts";
import { serverEnvelope, serverPayloads } from "../server.ts";
import { type FieldForm, type Form, type MessageForm, payloadForms } from "./forms.ts";
import { emptyMessage, type ProtoField, type ProtoFile, type ProtoMessage } from "./proto-file.ts";

/** A ClientFrame or a ServerFrame. */
export interface BoundFrame {
  /** All but the payload. */
  envelope: MessageForm;
  /** For payloads that no message can say all of. */
  custom: Payload;
  byType: Map<string, Payload[]>;
  byNumber: Map<number, Payload>;
}

export interface Payload {
  /** The only message type that it is for. */
  type: string | null;
  number: number;
  form: Form;
}

/** Gives what a payload of the type may travel as; the first that can say all of it is the one. */
export const payloadsOf = ({ byType, custom }: BoundFrame, type: unknown): Payload[] =>
  byType.get(type as string) ?? [custom];

/** Says what becomes of a form that the file does not have: it is given the next number there, or is a fault. */
export type Missing = "add" | "refuse";

/** Makes up a frame: its envelope without the payload, and the payloads by message type. */
export interface FrameSchemas {
  envelope: v.GenericSchema;
  payloads: Record<string, v.GenericSchema>;
}

const protocol = {
  ClientFrame: { envelope: v.omit(requestEnvelope, ["payload"]), payloads: clientPayloads },
  ServerFrame: { envelope: serverEnvelope, payloads: serverPayloads },
};

/** The protocol's own frames. */
export const bindProtocol = (file: ProtoFile, missing: Missing) => bindFrames(protocol, { file, missing });

/**
 * Joins the frames' schemas with the file. What is added is added to the file.
 * @throws TypeError where the two disagree
 */
export function bindFrames<Name extends string>(
  frames: Record<Name, FrameSchemas>,
  { file, missing }: { file: ProtoFile; missing: Missing },
): Record<Name, BoundFrame> {
  const used = new Set<ProtoMessage | ProtoField>();
  const bound = Object.entries<FrameSchemas>(frames).map(([name, schemas]) => [
    name,
    new FrameBinding({ file, name, missing, used }).bind(schemas),
  ]);
  if (missing === "add") reserveUnused(file.messages, used);
  return Object.fromEntries(bound);
}

/** Keeps the number of a field that is gone, so that nothing else is ever read from it. */
function reserveUnused(messages: Map<string, ProtoMessage>, used: Set<ProtoMessage | ProtoField>): void {
  for (const message of messages.values()) {
    if (!used.has(message)) messages.delete(message.name);
    for (const field of message.fields.values()) {
      if (used.has(field)) continue;
      message.fields.delete(field.name);
      message.reserved.push(field.number);
    }
    reserveUnused(message.messages, used);
  }
}

/** Leaves out what operators say, which gains nothing by messages of its own. */
const isTyped = (type: string) => !type.startsWith("admin.");
const capitalised = (name: string) => name.replace(/(?:^|[._])(\w)/g, (_, letter: string) => letter.toUpperCase());

const typeNames = {
  text: "string",
  flag: "bool",
  whole: "uint64",
  double: "double",
  object: "google.protobuf.Struct",
  any: "google.protobuf.Value",
};
const listNames = { string: "Text", bool: "Flag", uint64: "Number", double: "Double", [typeNames.object]: "Object" };

type Wanted = Omit<ProtoField, "number" | "comments">;

class FrameBinding {
  private readonly frame: ProtoMessage;
  /** A schema that stands in several places has one message. */
  private readonly names = new Map<unknown, string>();

  constructor(
    private readonly options: {
      file: ProtoFile;
      name: string;
      missing: Missing;
      used: Set<ProtoMessage | ProtoField>;
    },
  ) {
    this.frame = this.messageNamed(options.name, options.file.messages);
  }

  bind({ envelope, payloads }: FrameSchemas): BoundFrame {
    const [envelopeForm] = payloadForms(envelope) as [MessageForm];
    this.bindMessage(envelopeForm, this.frame);
    const customField = { name: "custom", label: null, type: typeNames.object, options: "", isPayload: true } as const;
    const custom: Payload = { type: null, number: this.numberOf(customField, this.frame), form: { kind: "object" } };
    const byType = new Map<string, Payload[]>();
    for (const [type, schema] of Object.entries(payloads)) {
      if (isTyped(type)) byType.set(type, [...this.payloads(type, schema), custom]);
    }
    const all = [...byType.values()].flat().concat(custom);
    return { envelope: envelopeForm, custom, byType, byNumber: new Map(all.map((it) => [it.number, it])) };
  }

  private payloads(type: string, schema: v.GenericSchema): Payload[] {
    const options = `(payload_of) = "${type}"`;
    const known = [...this.frame.fields.values()].filter((field) => field.options === options);
    return payloadForms(schema).map((form, index) => {
      // A type with several payloads has a message for each.
      const name = known[index]?.name ?? `${type.replaceAll(".", "_")}${index > 0 ? index + 1 : ""}`;
      const protoType = this.typeOf(form, { known: known[index]?.type, name: capitalised(name) });
      return {
        type,
        number: this.numberOf({ name, label: null, type: protoType, options, isPayload: true }, this.frame),
        form,
      };
    });
  }

  private bindMessage(form: MessageForm, message: ProtoMessage): void {
    for (const field of form.fields.values()) {
      field.number = this.numberOf(this.wanted(field, form, message), message);
      form.byNumber.set(field.number, field);
    }
  }

  private wanted({ name, form, absent }: FieldForm, { wholeText }: MessageForm, message: ProtoMessage): Wanted {
    const isRepeated = form.kind === "list" && absent === "list";
    const known = message.fields.get(name)?.type;
    const proposed = `${message === this.frame ? "" : message.name}${capitalised(name)}`;
    return {
      name,
      label: isRepeated ? "repeated" : form.kind === "map" ? null : "optional",
      type: this.typeOf(isRepeated ? form.item : form, { known, name: proposed }),
      options: optionsOf({ name, form, absent }, wholeText),
      isPayload: false,
    };
  }

  /** The type of a field. A message keeps the name that it is known by in the file. */
  private typeOf(form: Form, { known, name }: { known: string | undefined; name: string }): string {
    switch (form.kind) {
      case "message": {
        const chosen = known ?? this.names.get(form.schema) ?? this.unused(name);
        this.names.set(form.schema, chosen);
        this.bindMessage(form, this.messageNamed(chosen));
        return chosen;
      }
      case "list": {
        const list = known === undefined ? undefined : this.messageNamed(known);
        const item = this.typeOf(form.item, { known: list?.fields.get("items")?.type, name });
        const chosen = known ?? `${listNames[item] ?? item}List`;
        const message = list ?? this.messageNamed(chosen);
        message.options = ["option (is_list) = true;"];
        const items = { name: "items", label: "repeated", type: item, options: "", isPayload: false } as const;
        form.number = this.numberOf(items, message);
        return chosen;
      }
      case "map":
        return `map<string, ${this.typeOf(form.item, { known: known && /, (.+)>/.exec(known)?.[1], name })}>`;
      default:
        return typeNames[form.kind];
    }
  }

  /** A name that no other message has. */
  private unused(name: string): string {
    let unused = name;
    for (let count = 2; this.frame.messages.has(unused) || this.options.file.messages.has(unused); count++) {
      unused = `${name}${count}`;
    }
    return unused;
  }

  private messageNamed(name: string, scope = this.frame.messages): ProtoMessage {
    let message = scope.get(name) ?? this.options.file.messages.get(name);
    if (message === undefined) {
      if (this.options.missing === "refuse") throw disagreement(`has no message ${name}: run npm run generate`);
      message = emptyMessage(name);
      scope.set(name, message);
    }
    this.options.used.add(message);
    return message;
  }

  private numberOf(wanted: Wanted, message: ProtoMessage): number {
    let field = message.fields.get(wanted.name);
    if (field === undefined) {
      if (this.options.missing === "refuse")
        throw disagreement(`has no ${message.name}.${wanted.name}: run npm run generate`);
      const numbers = [...message.fields.values()].map(({ number }) => number).concat(message.reserved);
      field = { ...wanted, number: 1 + Math.max(0, ...numbers), comments: [] };
      message.fields.set(field.name, field);
    }
    const said = declarationOf(field);
    if (said !== declarationOf(wanted)) {
      throw disagreement(
        `says "${said}" of ${message.name}.${field.name}, and its schema "${declarationOf(wanted)}": what is released keeps its form, and a new form takes a new name`,
      );
    }
    this.options.used.add(field);
    return field.number;
  }
}

function optionsOf(
  { name, form, absent }: Pick<FieldForm, "name" | "form" | "absent">,
  wholeText: string | null,
): string {
  if (name === wholeText) return `(whole_text) = "${name}"`;
  if (form.kind === "message" && form.isNullEmpty) return "(null_if_empty) = true";
  return absent === "null" ? "(null_if_absent) = true" : "";
}

const declarationOf = ({ label, type, options, isPayload }: Wanted) =>
  [isPayload ? "oneof" : "", label ?? "", type, options].filter((part) => part !== "").join(" ");
const disagreement = (what: string) => new TypeError(`ws-service.proto ${what}. See src/protocol/protobuf/frames.ts.`);

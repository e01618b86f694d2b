/** Reads and writes the .proto file: the names, the numbers and the comments that stand in it. */

export interface ProtoFile {
  /** Everything before the first message, as it is. */
  head: string;
  messages: Map<string, ProtoMessage>;
}

export interface ProtoMessage {
  name: string;
  comments: string[];
  options: string[];
  fields: Map<string, ProtoField>;
  /** Of fields that were: nothing else is ever read from them. */
  reserved: number[];
  /** Comments before the oneof, of which the last fields are. */
  oneofComments: string[];
  messages: Map<string, ProtoMessage>;
}

export interface ProtoField {
  name: string;
  number: number;
  comments: string[];
  label: "optional" | "repeated" | null;
  type: string;
  /** As it stands in brackets. */
  options: string;
  /** Of the message's oneof. */
  isPayload: boolean;
}

export const emptyMessage = (name: string): ProtoMessage => ({
  name,
  comments: [],
  options: [],
  fields: new Map(),
  reserved: [],
  oneofComments: [],
  messages: new Map(),
});

const fieldPattern = /^(?:(optional|repeated) )?(map<.+>|[\w.]+) (\w+) = (\d+)(?: \[(.+)\])?;$/;

/**
 * Reads a file that `protoText` has written.
 * @throws SyntaxError with the line that is of another form
 */
export function parseProto(text: string): ProtoFile {
  const start = /^(?:\/\/.*\n)*message /m.exec(text)?.index ?? text.length;
  const root = emptyMessage("");
  const open = [root];
  let comments: string[] = [];
  let isPayload = false;
  const take = () => {
    const taken = comments;
    comments = [];
    return taken;
  };
  for (const line of text
    .slice(start)
    .split("\n")
    .map((it) => it.trim())) {
    const message = open.at(-1)!;
    const field = fieldPattern.exec(line);
    const opened = /^message (\w+) \{(\})?$/.exec(line);
    if (line.startsWith("//")) comments.push(line);
    else if (opened) {
      const inner = { ...emptyMessage(opened[1]!), comments: take() };
      message.messages.set(inner.name, inner);
      if (opened[2] === undefined) open.push(inner);
    } else if (line === "oneof payload {") {
      isPayload = true;
      message.oneofComments = take();
    } else if (line === "}") {
      if (isPayload) isPayload = false;
      else open.pop();
    } else if (line.startsWith("option ")) message.options.push(line);
    else if (line.startsWith("reserved ")) message.reserved.push(...line.match(/\d+/g)!.map(Number));
    else if (field) {
      const [, label = null, type, name, number, options = ""] = field;
      const parsed = { name: name!, number: Number(number), label, type: type!, options, isPayload, comments: take() };
      message.fields.set(parsed.name, parsed as ProtoField);
    } else if (line !== "") throw new SyntaxError(`Not understood in the .proto file: ${line}`);
  }
  return { head: text.slice(0, start), messages: root.messages };
}

/** Writes a file: fields by their numbers, messages as they were. */
export function protoText({ head, messages }: ProtoFile): string {
  return head + [...messages.values()].map((message) => `${messageLines(message).join("\n")}\n`).join("\n");
}

function messageLines({ name, comments, options, fields, reserved, oneofComments, messages }: ProtoMessage): string[] {
  const all = [...fields.values()].sort((a, b) => a.number - b.number);
  const head = [...options];
  if (reserved.length > 0) head.push(`reserved ${reserved.toSorted((a, b) => a - b).join(", ")};`);
  const blocks = [[...head, ...all.filter(({ isPayload }) => !isPayload).flatMap(fieldLines)]];
  const payloads = all.filter(({ isPayload }) => isPayload).flatMap(fieldLines);
  if (payloads.length > 0) blocks.push([...oneofComments, "oneof payload {", ...indented(payloads), "}"]);
  for (const inner of messages.values()) blocks.push(messageLines(inner));
  const lines = blocks
    .filter((block) => block.length > 0)
    .flatMap((block, index) => (index > 0 ? ["", ...block] : block));
  return [...comments, ...(lines.length > 0 ? [`message ${name} {`, ...indented(lines), "}"] : [`message ${name} {}`])];
}

function fieldLines({ comments, label, type, name, number, options }: ProtoField): string[] {
  const declared = `${label === null ? "" : `${label} `}${type} ${name} = ${number}`;
  return [...comments, `${declared}${options === "" ? "" : ` [${options}]`};`];
}

const indented = (lines: string[]) => lines.map((line) => (line === "" ? "" : `  ${line}`));

/** Writes the .proto file anew from the payload schemas: `npm run generate`. Names, numbers and comments stay. */
import { join } from "node:path";
import { bindProtocol } from "./frames.ts";
import { parseProto, protoText } from "./proto-file.ts";

/** Brings the text of the file up to the schemas. */
export function generated(text: string): string {
  const file = parseProto(text);
  bindProtocol(file, "add");
  return protoText(file);
}

if (import.meta.main) {
  const path = join(import.meta.dir, "ws-service.proto");
  await Bun.write(path, generated(await Bun.file(path).text()));
}

/** Compiles a .proto file as its users do, and reads and writes its messages by protobuf's own library. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFileRegistry, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const compiler = join(import.meta.dir, "../../node_modules/.bin/buf");
export const hasCompiler = existsSync(compiler);

/**
 * The messages of a file by their names in it, such as `ClientFrame`.
 * @throws Error with what the compiler says
 */
export async function compileProto(text: string): Promise<(name: string) => DescMessage> {
  const folder = mkdtempSync(join(tmpdir(), "proto-"));
  try {
    writeFileSync(join(folder, "ws-service.proto"), text);
    const child = Bun.spawn([compiler, "build", folder, "-o", "-#format=binpb"], { stdout: "pipe", stderr: "pipe" });
    const [bytes, complaint] = await Promise.all([
      new Response(child.stdout).bytes(),
      new Response(child.stderr).text(),
    ]);
    if ((await child.exited) !== 0) throw new Error(complaint);
    const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
    return (name) => registry.getMessage(`ws_service.v1.${name}`)!;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The same message as the library writes it; what the compiled file does not know is not in it. */
export const rewritten = (desc: DescMessage, bytes: Uint8Array) =>
  toBinary(desc, fromBinary(desc, bytes, { readUnknownFields: false }));

/** The numbers of the fields that a message has. */
export function fieldNumbers(bytes: Uint8Array): number[] {
  const numbers: number[] = [];
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    numbers.push(number);
    reader.skip(wireType, number);
  }
  return numbers;
}

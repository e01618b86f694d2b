/** Lists the wire formats with their codecs. */
import { type Codec, jsonCodec } from "./codec.ts";
import type { WireFormat } from "./limits.ts";
import { protobufCodec } from "./protobuf/codec.ts";

export type Codecs = Record<WireFormat, Codec>;

export const codecs: Codecs = { json: jsonCodec, protobuf: protobufCodec };

/** Verifies HS256 tokens by the platform's own HMAC, at once: WebCrypto does that in another thread, and the way there is longer than the work. */
import {
  base64url,
  errors,
  type JWSHeaderParameters,
  type JWTPayload,
  type JWTVerifyOptions,
  jwtVerify,
  UnsecuredJWT,
} from "jose";

/** `{"alg":"none"}`: claims whose signature was checked are read as if they had none. */
const noneHeader = "eyJhbGciOiJub25lIn0";

/** @param header the token's own, which says HS256 @throws what `jwtVerify` throws */
export function verifyHs256(
  token: string,
  { header: { crit }, secret }: { header: JWSHeaderParameters; secret: Uint8Array },
  options: JWTVerifyOptions,
): JWTPayload | Promise<JWTPayload> {
  // Extensions are rare: what they mean is left to the library.
  if (crit !== undefined) return jwtVerify(token, secret, options).then(({ payload }) => payload);
  const [header, payload, signature, ...more] = token.split(".");
  if (payload === undefined || signature === undefined || more.length > 0)
    throw new errors.JWSInvalid("Invalid Compact JWS");
  const expected = new Bun.CryptoHasher("sha256", secret).update(`${header}.${payload}`).digest();
  const given = bytesOf(signature);
  if (given.length !== expected.length || !crypto.timingSafeEqual(given, expected))
    throw new errors.JWSSignatureVerificationFailed();
  return UnsecuredJWT.decode(`${noneHeader}.${payload}.`, options).payload;
}

function bytesOf(signature: string): Uint8Array {
  try {
    return base64url.decode(signature);
  } catch (cause) {
    throw new errors.JWSInvalid("Failed to base64url decode the signature", { cause });
  }
}

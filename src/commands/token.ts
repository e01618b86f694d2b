/** Mints a token for development, signed with the configured secret. */
import { SignJWT } from "jose";
import * as v from "valibot";
import { bytesOfSecret } from "../auth/fixed-keys.ts";
import { roles } from "../auth/identity.ts";
import { secretBytesMin } from "../config/checks.ts";
import { loadConfig } from "../config/loader.ts";
import type { Config } from "../config/schema.ts";
import { age } from "../config/values.ts";
import { identifier } from "../protocol/fields.ts";
import { type Command, type CommandArgs, UsageError } from "./command.ts";

const ttlDaysMax = 3_650;

export const token: Command = {
  name: "token",
  summary: "mint a token for development, or for a backend, signed with the configured secret",
  usage: "token --user <id> [--role service,admin] [--device <id>] [--ttl 1h] [--config <file>]",
  details: `It is signed with auth.service_secret where it has a role or there is no auth.secret, else with auth.secret. With public keys or a key
server there is nothing here to sign with.`,
  examples: ["token --user anna", "token --user shop --role service --ttl 30d"],
  options: {
    user: { summary: "whom the token speaks for", value: "id" },
    role: { summary: "service or admin; more than once, or with commas", value: "role" },
    device: { summary: "binds the token to one device", value: "id" },
    ttl: { summary: "how long it is valid (1h)", value: "duration" },
    config: { summary: "the configuration's file", value: "file" },
  },

  async run(args, io) {
    const claims = claimsOf(args);
    const file = args.value("config");
    const options = { env: io.env, cwd: io.cwd, uses: ["auth"] };
    const { config } = await loadConfig({ ...(file === undefined ? {} : { file }), ...options });
    const signer = signerOf(config.auth, claims.roles);
    if ("obstacle" in signer) {
      io.stderr.write(`${signer.obstacle}\n`);
      return 1;
    }
    const { issuer, audience } = signer;
    const key = bytesOfSecret(signer.secret);
    const issuedAtSeconds = Math.floor(Date.now() / 1_000);
    const jwt = await new SignJWT({
      sub: claims.user,
      iat: issuedAtSeconds,
      exp: issuedAtSeconds + Math.ceil(claims.ttlMs / 1_000),
      ...(claims.roles.length === 0 ? {} : { roles: claims.roles }),
      ...(claims.device === undefined ? {} : { device_id: claims.device }),
      ...(issuer === null ? {} : { iss: issuer }),
      ...(audience === null ? {} : { aud: audience }),
    })
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .sign(key);
    io.stdout.write(`${jwt}\n`);
    return 0;
  },
};

function claimsOf(args: CommandArgs) {
  const user = args.value("user");
  if (user === undefined) throw new UsageError("token needs --user <id>");
  checkIdentifier("user", user);
  const device = args.value("device");
  if (device !== undefined) checkIdentifier("device", device);
  const names = args.values("role").flatMap((it) => it.split(",").map((name) => name.trim()));
  for (const name of names) {
    if (!roles.some((role) => role === name))
      throw new UsageError(`--role must be ${roles.join(" or ")}, not ${JSON.stringify(name)}`);
  }
  const ttl = v.safeParse(age, args.value("ttl") ?? "1h");
  if (!ttl.success) throw new UsageError(`--ttl ${ttl.issues[0].message}`);
  if (ttl.output > ttlDaysMax * 86_400_000) throw new UsageError(`--ttl must be at most ${ttlDaysMax}d`);
  return { user, device, roles: [...new Set(names)], ttlMs: ttl.output };
}

function checkIdentifier(flag: string, value: string): void {
  const result = v.safeParse(identifier, value);
  if (!result.success) throw new UsageError(`--${flag} ${result.issues[0].message}`);
}

interface Signer {
  secret: string;
  issuer: string | null;
  audience: string | null;
}

/** The key to sign with; or why no such token can be minted with these settings, and what to do about it. */
function signerOf(auth: Config["auth"], roles: readonly string[]): Signer | { obstacle: string } {
  const { algorithms, secret, service_secret, service_public_key_file, issuer, audience } = auth;
  const isForUsers = algorithms.includes("HS256") && secret !== null;
  // Roles are carried by the backends' key alone where there is one, and it can sign for users where theirs cannot.
  if (service_secret !== null && (roles.length > 0 || !isForUsers)) {
    return { secret: service_secret, issuer: null, audience: null };
  }
  if (roles.length > 0 && service_public_key_file !== null) {
    return {
      obstacle:
        "auth.service_public_key_file is set: tokens with a role are signed with its private key, which this service does not have.",
    };
  }
  if (roles.length > 0 && isForUsers && (auth.roles_claim !== "roles" || auth.role_map !== null)) {
    return {
      obstacle:
        "auth.roles_claim or auth.role_map say how your issuer writes roles, which this command does not. " +
        "Set auth.service_secret for backends, or leave both out.",
    };
  }
  if (isForUsers) return { secret: secret!, issuer, audience };
  if (!algorithms.includes("HS256")) {
    return {
      obstacle:
        `auth.algorithms is ${algorithms.join(", ")}: such tokens are signed with a private key, which this service does not have. ` +
        "Ask whoever issues your tokens, set auth.service_secret for backends, or use HS256 with auth.secret for development.",
    };
  }
  return {
    obstacle:
      "auth.secret is not set, so there is nothing to sign with. Set auth.secret in the configuration, " +
      `at least ${secretBytesMin} bytes, such as the output of: openssl rand -base64 ${secretBytesMin}`,
  };
}

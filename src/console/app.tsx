/** Lets the operator in, and shows the page of where the reader is. */
import { type FormEvent, type ReactNode, useEffect, useMemo, useState } from "react";
import type { Connection } from "../client/connection.ts";
import { ServerError } from "../client/errors.ts";
import { SessionContext, useConnectionState, useRoute } from "./hooks.ts";
import { Cluster } from "./pages/cluster.tsx";
import { ConnectionPage } from "./pages/connection.tsx";
import { Nodes } from "./pages/nodes.tsx";
import { TopicPage, Topics } from "./pages/topics.tsx";
import { UserPage, Users } from "./pages/users.tsx";
import {
  type About,
  askAbout,
  connectAs,
  forgetWhoIsThere,
  type Identity,
  keepIdentity,
  keepOperationsToken,
  keptIdentity,
  NeedsToken,
  proveAdmin,
  sentenceOf,
  sentenceOfError,
} from "./session.ts";

export function App() {
  const [about, setAbout] = useState<About | null>(null);
  const [refusal, setRefusal] = useState<Error | null>(null);
  const look = () => {
    setRefusal(null);
    askAbout().then(setAbout, setRefusal);
  };
  useEffect(look, []);
  const leave = () => {
    forgetWhoIsThere();
    setAbout(null);
    look();
  };
  if (about !== null) return <SignedInOrNot about={about} onBack={look} onSignOut={leave} />;
  if (refusal === null) return null;
  if (!(refusal instanceof NeedsToken)) return <Entrance fault={sentenceOfError(refusal)} />;
  return (
    <Entrance fault={refusal.message}>
      <Question
        label="Token of this listener (operations.token)"
        isSecret
        onAnswer={(token) => {
          keepOperationsToken(token);
          look();
        }}
      />
    </Entrance>
  );
}

/** @param onBack called where there is another line to a service, which may be another by now */
function SignedInOrNot({ about, onBack, onSignOut }: { about: About; onBack: () => void; onSignOut: () => void }) {
  const [identity, setIdentity] = useState(keptIdentity);
  const [fault, setFault] = useState("");
  const isByToken = about.auth === "token";
  function take(given: Identity | null, why = ""): void {
    keepIdentity(given);
    setIdentity(given);
    setFault(why);
  }
  if (identity !== null)
    return (
      <SignedIn
        key={JSON.stringify(identity)}
        about={about}
        identity={identity}
        onOut={(why) => take(null, why)}
        onSignOut={onSignOut}
        onBack={onBack}
      />
    );
  return (
    <Entrance fault={fault}>
      {isByToken ? (
        <Question label="Token with the role admin" isSecret onAnswer={(token) => take({ token })} />
      ) : (
        <Question label="Who you are, for the log" value="admin" onAnswer={(userId) => take({ userId })} />
      )}
    </Entrance>
  );
}

function Entrance({ fault, children }: { fault: string; children?: ReactNode }) {
  return (
    <main className="entrance">
      <h1>ws-service</h1>
      {children}
      {fault !== "" && (
        <p role="alert" className="notice bad">
          {fault}
        </p>
      )}
    </main>
  );
}

function Question({
  label,
  value = "",
  isSecret = false,
  onAnswer,
}: {
  label: string;
  value?: string;
  isSecret?: boolean;
  onAnswer: (text: string) => void;
}) {
  function submit(event: FormEvent<HTMLFormElement>): void {
    event.preventDefault();
    onAnswer(String(new FormData(event.currentTarget).get("text")).trim());
  }
  return (
    <form onSubmit={submit}>
      <label>
        {label}
        <input name="text" type={isSecret ? "password" : "text"} defaultValue={value} required autoComplete="off" />
      </label>
      <button type="submit" className="primary">
        Sign in
      </button>
    </form>
  );
}

function SignedIn({
  about,
  identity,
  onOut,
  onSignOut,
  onBack,
}: {
  about: About;
  identity: Identity;
  onOut: (why: string) => void;
  onSignOut: () => void;
  onBack: () => void;
}) {
  const [connection, setConnection] = useState<Connection | null>(null);
  const [isProven, setProven] = useState(false);
  // Once: another identity is another component.
  useEffect(() => {
    const made = connectAs(identity);
    setConnection(made);
    const refused = (error: unknown) => {
      if (error instanceof ServerError && error.code === "forbidden") onOut("This is no admin here.");
      // Pages say themselves what else there is; where the line broke, the next one asks again.
      else if (made.state.status === "live") setProven(true);
    };
    let wasLetIn = false;
    const unlisten = made.onState((state) => {
      if (state.status === "live") {
        if (wasLetIn) onBack();
        wasLetIn = true;
        proveAdmin(made).then(() => setProven(true), refused);
      }
      if (state.status === "stopped" && state.reason !== "stopped") onOut(sentenceOf(state));
      // A browser is not told why. Where a token says who this is, or the service has let this one in before, that is not the reason.
      if (state.status === "waiting" && state.reason === "refused" && "userId" in identity && !wasLetIn)
        onOut(`The service does not let ${identity.userId} in: disabled or blocked, or this node takes nobody now.`);
    });
    made.start();
    return () => {
      unlisten();
      void made.stop();
    };
  }, []);
  const session = useMemo(
    () => (connection === null ? null : { about, connection, signOut: onSignOut }),
    [about, connection, onSignOut],
  );
  if (session === null) return null;
  return (
    <SessionContext value={session}>
      <Frame session={session}>{isProven ? <Page /> : null}</Frame>
    </SessionContext>
  );
}

const places: [path: string, name: string][] = [
  ["", "Cluster"],
  ["nodes", "Nodes"],
  ["users", "Users"],
  ["topics", "Topics"],
];

function Frame({
  session: { about, connection, signOut },
  children,
}: {
  session: { about: About; connection: Connection; signOut: () => void };
  children: ReactNode;
}) {
  const state = useConnectionState(connection);
  const [first = ""] = useRoute().path;
  const here = first === "connections" ? "users" : first;
  return (
    <>
      <header>
        <h1>ws-service</h1>
        <nav aria-label="Pages">
          {places.map(([place, name]) => (
            <a key={name} href={`#/${place}`} aria-current={here === place ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <p className="where">
          <span role="status" className={state.status === "live" ? "state good" : "state bad"}>
            {sentenceOf(state)}
          </span>
          <span>
            {about.node_id} · {about.version}
          </span>
          <button type="button" onClick={signOut}>
            Sign out
          </button>
        </p>
      </header>
      <main>{children}</main>
    </>
  );
}

function Page() {
  const { path, query } = useRoute();
  const [place, id] = path;
  switch (place) {
    case undefined:
      return <Cluster nodeId={undefined} />;
    case "nodes":
      return id === undefined ? <Nodes /> : <Cluster key={id} nodeId={id} />;
    case "users":
      return id === undefined ? <Users query={query} /> : <UserPage key={id} userId={id} />;
    case "topics":
      return id === undefined ? <Topics prefix={query.get("prefix") ?? ""} /> : <TopicPage key={id} name={id} />;
    case "connections":
      return id === undefined ? <Users query={query} /> : <ConnectionPage key={id} connectionId={id} />;
    default:
      return <p className="empty">There is no such page.</p>;
  }
}

/** Asks who is here: in the demo everybody is believed. */
import { Avatar } from "./Avatar.tsx";
import { people } from "./people.ts";

const persons = people.filter(({ isMachine }) => !isMachine);

export function SignIn() {
  return (
    <main className="sign-in">
      <div className="sign-in-card">
        <img src="/icon.svg" alt="" width="52" height="52" />
        <h1>Who are you today?</h1>
        <p>Open a second window as somebody else, and talk.</p>
        <ul>
          {persons.map(({ id, name }) => (
            <li key={id}>
              <a href={`?user=${id}`}>
                <Avatar userId={id} size={40} />
                {name}
              </a>
            </li>
          ))}
        </ul>
      </div>
    </main>
  );
}

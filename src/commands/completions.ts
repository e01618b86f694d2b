/** Writes what bash, zsh and fish complete a command line by, from the same table as the help. */
import { type Command, type CommandOption, UsageError } from "./command.ts";

const shells: Record<string, (commands: readonly Command[]) => string> = { bash, zsh, fish };

/** @param load all commands, this one among them */
export const completionsOf = (load: () => Promise<readonly Command[]>): Command => ({
  name: "completions",
  summary: "print what a shell completes this program's command line by",
  usage: "completions bash|zsh|fish",
  details: `It goes where the shell looks for such files, here for everybody on the machine:

  ws-service completions bash > /usr/share/bash-completion/completions/ws-service
  ws-service completions zsh > /usr/share/zsh/vendor-completions/_ws-service
  ws-service completions fish > /usr/share/fish/vendor_completions.d/ws-service.fish`,
  examples: ["completions bash"],
  options: {},
  words: Object.keys(shells),
  wordsMax: 1,
  async run(args, io) {
    const [name = ""] = args.words;
    const write = Object.hasOwn(shells, name) ? shells[name] : undefined;
    if (write === undefined) throw new UsageError(`completions needs one of: ${Object.keys(shells).join(", ")}`);
    io.stdout.write(write(await load()));
    return 0;
  },
});

const help: CommandOption = { summary: "show this" };
const optionsOf = (command: Command): [flag: string, option: CommandOption][] => [
  ...Object.entries(command.options),
  ["help", help],
];
const flagsOf = (command: Command, fits: (option: CommandOption) => boolean) =>
  optionsOf(command)
    .filter(([, option]) => fits(option))
    .map(([flag]) => `--${flag}`)
    .join(" ");
const takesFile = ({ value }: CommandOption) => value === "file";

/** Words that go first, each with those that may follow it. */
function wordsOf({ words = [] }: Command): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const word of words === "files" ? [] : words) {
    const [first, second] = word.split(" ") as [string, string?];
    found.set(first, [...(found.get(first) ?? []), ...(second === undefined ? [] : [second])]);
  }
  return found;
}

const followed = (command: Command) => [...wordsOf(command)].filter(([, second]) => second.length > 0);

function bash(commands: readonly Command[]): string {
  const cases = commands.map((command) =>
    [
      `    ${command.name})`,
      `      options="${flagsOf(command, () => true)}"`,
      `      valued="${flagsOf(command, ({ value }) => value !== undefined)}"`,
      `      filed="${flagsOf(command, takesFile)}${command.words === "files" ? " words" : ""}"`,
      `      first="${[...wordsOf(command).keys()].join(" ")}"`,
      "      ;;",
    ].join("\n"),
  );
  const seconds = commands.flatMap((command) =>
    followed(command).map(([first, second]) => `      "${command.name} ${first}") words="${second.join(" ")}" ;;`),
  );
  return `# What bash completes ws-service by; made by: ws-service completions bash
_ws_service() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]}
  # --config=file comes in three words.
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  local command=serve at=1 options= valued= filed= first= words= given=()
  if ((COMP_CWORD > 1)) && [[ \${COMP_WORDS[1]} != -* ]]; then
    command=\${COMP_WORDS[1]}
    at=2
  fi
  case $command in
${cases.join("\n")}
  esac
  for (( ; at < COMP_CWORD; at++)); do
    if [[ " $valued " == *" \${COMP_WORDS[at]} "* ]]; then
      [[ \${COMP_WORDS[at + 1]} == = ]] && ((at++))
      ((at++))
    elif [[ \${COMP_WORDS[at]} != -* ]]; then
      given+=("\${COMP_WORDS[at]}")
    fi
  done
  COMPREPLY=()
  if [[ " $valued " == *" $before "* ]]; then
    [[ " $filed " == *" $before "* ]] || return 0
    words=files
  elif [[ $word == -* ]]; then
    words=$options
  elif ((COMP_CWORD == 1)); then
    words="${commands.map(({ name }) => name).join(" ")}"
  elif ((\${#given[@]} == 0)) && [[ " $filed " == *" words "* ]]; then
    words=files
  elif ((\${#given[@]} == 0)); then
    words=$first
  elif ((\${#given[@]} == 1)); then
    case "$command \${given[0]}" in
${seconds.join("\n")}
    esac
  fi
  if [[ $words == files ]]; then
    compopt -o filenames 2> /dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  fi
}
complete -F _ws_service ws-service
`;
}

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
/** Within a specification of zsh brackets and colons have a meaning. */
const escaped = (text: string) => text.replace(/[[\]:\\]/g, "\\$&");

function zsh(commands: readonly Command[]): string {
  const argumentOf = ([flag, { summary, value }]: [string, CommandOption]) => {
    const described = `[${escaped(summary)}]`;
    if (value === undefined) return quoted(`--${flag}${described}`);
    return quoted(`*--${flag}=${described}:${escaped(value)}:${value === "file" ? "_files" : ""}`);
  };
  const cases = commands.map((command) => {
    const first = [...wordsOf(command).keys()];
    const named = [
      ...(command.words === "files" ? [quoted("1:file:_files")] : []),
      ...(first.length > 0 ? [quoted(`1:what:(${first.join(" ")})`)] : []),
      ...(followed(command).length > 0 ? ['"2:what:($second)"'] : []),
    ];
    const seconds = followed(command).map(([word, second]) => `        ${word}) second=(${second.join(" ")}) ;;\n`);
    const which = seconds.length === 0 ? "" : `      case $words[2] in\n${seconds.join("")}      esac\n`;
    const lines = [...optionsOf(command).map(argumentOf), ...named].map((line) => ` \\\n        ${line}`);
    return `    ${command.name})\n${which}      _arguments${lines.join("")}\n      ;;\n`;
  });
  return `#compdef ws-service
# What zsh completes ws-service by; made by: ws-service completions zsh
_ws_service() {
  local command=serve
  local -a commands second
  commands=(
${commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}\n`).join("")}  )
  if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then
    _describe command commands
    return
  fi
  if [[ $words[2] != -* ]]; then
    command=$words[2]
    shift words
    ((CURRENT--))
  fi
  case $command in
${cases.join("")}  esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _ws_service "$@"; else compdef _ws_service ws-service; fi
`;
}

function fish(commands: readonly Command[]): string {
  const line = (condition: string, rest: string) => `complete -c ws-service -n ${quoted(condition)} ${rest}`;
  const lines = commands.flatMap((command) => {
    const seen = `__fish_seen_subcommand_from ${command.name}`;
    const words = wordsOf(command);
    const first = [...words.keys()].join(" ");
    return [
      line("__fish_use_subcommand", `-a ${command.name} -d ${quoted(command.summary)}`),
      ...optionsOf(command).map(([flag, { summary, value }]) => {
        const takes = value === undefined ? "" : value === "file" ? " -r -F" : " -x";
        return line(seen, `-l ${flag}${takes} -d ${quoted(summary)}`);
      }),
      ...(command.words === "files" ? [line(seen, "-F")] : []),
      ...(first === "" ? [] : [line(`${seen}; and not __fish_seen_subcommand_from ${first}`, `-a ${quoted(first)}`)]),
      ...followed(command).map(([word, second]) =>
        line(`${seen}; and __fish_seen_subcommand_from ${word}`, `-a ${quoted(second.join(" "))}`),
      ),
    ];
  });
  return `# What fish completes ws-service by; made by: ws-service completions fish
complete -c ws-service -f
${lines.join("\n")}
`;
}

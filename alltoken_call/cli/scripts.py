"""The completion scripts of shell.py, with @names@ for what comes from the parsers."""

BASH = r"""
_alltoken_call_files() {  # a line a name, which may hold spaces; macOS's bash lacks both builtins
    compopt -o filenames 2>/dev/null
    if type mapfile >/dev/null 2>&1; then mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    else local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")); fi
}
_alltoken_call_offer() {  # those of the words that begin as the one at the cursor
    local word
    for word; do [[ $word == "$cur"* ]] && COMPREPLY+=("$word"); done
}
_alltoken_call_models() {  # the ids of these kinds that `alltoken-call models` last saw
    local kind file id
    for kind; do
        file="$state/models/$gateway.$kind"
        [[ -r $file || $gateway == alltoken ]] || file="$state/models/$gateway.chat"
        if [[ -r $file ]]; then while IFS= read -r id; do _alltoken_call_offer "$id"; done <"$file"; fi
    done
}
_alltoken_call_tasks() {  # the unfinished tasks of a command, the newest first
    local ledger="${ALLTOKEN_LEDGER:-$state/ledger.db}" id
    [[ $ledger == /* ]] || ledger="./$ledger"
    [[ -r $ledger ]] && type sqlite3 >/dev/null 2>&1 || return
    while IFS= read -r id; do [[ $id == *[!A-Za-z0-9._-]* ]] || _alltoken_call_offer "$id"; done < <(
        sqlite3 -init /dev/null -batch -readonly "$ledger" "@tasks@" 2>/dev/null </dev/null
    )
}
_alltoken_call_words() {  # the words of the line; bash also splits them at : and =
    local line="${COMP_LINE:0:COMP_POINT}" rest word i
    line="${COMP_WORDS[0]}${line#*"${COMP_WORDS[0]}"}"
    for ((i = 0; i <= COMP_CWORD; i++)); do
        rest="${line#"${line%%[![:space:]]*}"}"
        word="${COMP_WORDS[i]}"
        ((i < COMP_CWORD)) || word="$rest"
        if [[ $rest == "$line" ]] && ((i)); then words[${#words[@]} - 1]+="$word"; else words+=("$word"); fi
        line="${rest#"$word"}"
    done
}
_alltoken_call_fill() {
    case "$command:$prev" in
        :--completion) _alltoken_call_offer @shells@; return ;;
        :--install-skills | :--new-agent) _alltoken_call_files; return ;;
        :help) _alltoken_call_offer @commands@; return ;;
        :*) _alltoken_call_offer @commands@ help @top@; return ;;
@values@
    esac
    ((after)) && return
    case "$command:$cur" in
@flags@
    esac
    ((at == ${#words[@]} - 2)) || return
    case "$command" in
@first@
    esac
}
_alltoken_call() {
    local cur prev word i at=0 after=0 command= gateway="${ALLTOKEN_GATEWAY:-alltoken}" state="${XDG_STATE_HOME:-}"
    local -a words
    [[ $state == /* ]] || state="$HOME/.local/state"
    state="$state/alltoken-call"
    COMPREPLY=()
    _alltoken_call_words
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word="${words[i]}"
        case "$word" in
            --) after=1; break ;;
            --gateway) gateway="${words[i + 1]}" ;;
            --gateway=*) gateway="${word#*=}" ;;
            -* | help) ;;
            *) [[ $command ]] || { command="${word#/alltoken-}" at=$i; } ;;
        esac
    done
    gateway="${gateway//_/-}"
    cur="${words[i]}" prev="${words[i - 1]}"
    ((after)) && cur="${words[${#words[@]} - 1]}" prev=
    if [[ $cur == --*=* ]] && ((!after)); then prev="${cur%%=*}" cur="${cur#*=}"; fi
    _alltoken_call_fill
    # What is offered replaces only what follows the last : or = where bash splits words there.
    word="${COMP_WORDS[COMP_CWORD]}"
    [[ $word == [:=] ]] && word=
    if [[ $cur == *"$word" && $cur != "$word" ]]; then COMPREPLY=("${COMPREPLY[@]#"${cur%"$word"}"}"); fi
}
complete -o default -F _alltoken_call alltoken-call
"""

ZSH = r"""
#compdef alltoken-call
_alltoken_call_models() {  # the ids of these kinds that `alltoken-call models` last saw
    local state=$XDG_STATE_HOME gateway=${ALLTOKEN_GATEWAY:-alltoken} kind file word
    local -a ids
    [[ $state == /* ]] || state=$HOME/.local/state
    for word in $words; do [[ $word == --gateway=* ]] && gateway=${word#*=}; done
    (( ${words[(I)--gateway]} )) && gateway=${words[${words[(I)--gateway]} + 1]}
    gateway=${gateway//_/-}
    for kind; do
        file=$state/alltoken-call/models/$gateway.$kind
        [[ -r $file || $gateway == alltoken ]] || file=$state/alltoken-call/models/$gateway.chat
        [[ -r $file ]] && ids+=(${(f)"$(<$file)"})
    done
    (( $#ids )) && compadd -a ids
}
_alltoken_call_tasks() {  # the unfinished tasks of a command, the newest first
    local state=$XDG_STATE_HOME ledger
    local -a ids
    [[ $state == /* ]] || state=$HOME/.local/state
    ledger=${ALLTOKEN_LEDGER:-$state/alltoken-call/ledger.db}
    [[ $ledger == /* ]] || ledger=./$ledger
    [[ -r $ledger ]] && (( $+commands[sqlite3] )) || return
    ids=(${(f)"$(sqlite3 -init /dev/null -batch -readonly $ledger "@tasks@" 2>/dev/null </dev/null)"})
    ids=(${(M)ids:#[A-Za-z0-9._-]##})
    (( $#ids )) && compadd -V tasks -a ids
}
_alltoken_call() {
    setopt local_options extended_glob
    local -a names
    while (( CURRENT > 2 )) && [[ $words[2] == (@anywhere@) ]]; do words[2]=(); (( CURRENT-- )); done
    if (( CURRENT == 2 )); then
        names=(@described@)
        _describe command names; compadd -- help @top@; return
    fi
    shift words; (( CURRENT-- ))
    case ${words[1]#/alltoken-} in
        help) compadd -- @commands@ ;;
        --completion) compadd -- @shells@ ;;
@cases@
        *) _files ;;
    esac
}
# autoloaded from $fpath it is a function's body; evaluated, it has a function to register
if [[ $funcstack[1] == _alltoken-call ]]; then _alltoken_call "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    compdef _alltoken_call alltoken-call
fi
"""

FISH = r"""
function __alltoken_call_is  # whether this is the command on the line; without a name: whether there is none yet
    set -l words (commandline -opc)
    for word in $words[2..-1]
        contains -- $word --completion --install-skills --new-agent; and return 1
        string match -q -- '-*' $word; and continue
        test (string replace '/alltoken-' '' -- $word) = "$argv[1]"
        return
    end
    test -z "$argv[1]"
end
function __alltoken_call_state
    set -l state "$XDG_STATE_HOME"
    string match -q '/*' -- $state; or set state $HOME/.local/state
    echo $state/alltoken-call
end
function __alltoken_call_models  # the ids of these kinds that `alltoken-call models` last saw
    set -l words (commandline -opc)
    set -l gateway $ALLTOKEN_GATEWAY
    for at in (seq (count $words))
        switch $words[$at]
            case --gateway
                set gateway $words[(math $at + 1)]
            case '--gateway=*'
                set gateway (string replace -- --gateway= '' $words[$at])
        end
    end
    test -n "$gateway"; or set gateway alltoken
    set gateway (string replace -a _ - -- $gateway)
    for kind in $argv
        set -l file (__alltoken_call_state)/models/$gateway.$kind
        test -r $file -o $gateway = alltoken; or set file (__alltoken_call_state)/models/$gateway.chat
        test -r $file; and string match -e '' <$file
    end
end
function __alltoken_call_tasks  # the unfinished tasks of a command, the newest first
    set -l ledger (__alltoken_call_state)/ledger.db
    test -n "$ALLTOKEN_LEDGER"; and set ledger $ALLTOKEN_LEDGER
    string match -q '/*' -- $ledger; or set ledger ./$ledger
    test -r $ledger; and command -q sqlite3; or return
    sqlite3 -init /dev/null -batch -readonly $ledger "@tasks@" 2>/dev/null </dev/null \
        | string match -r '^[A-Za-z0-9._-]+$'
end
"""

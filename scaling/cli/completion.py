"""Tab completion of a command line: commands, options, and the settings and presets that Hydra composes."""

import re
from collections.abc import Mapping
from typing import Any

# Bash hands over only what follows the last = or : of a word, so candidates lose what stands before.
BASH = r"""_scaling() {
    local line="${COMP_LINE:0:$COMP_POINT}" IFS=$'\n'
    local word="${line##* }"
    local before="${word%"${word##*[=:]}"}"
    COMPREPLY=($(scaling completion query "$line" 2>/dev/null))
    [[ "${COMPREPLY[0]}" == *[=./] ]] && compopt -o nospace
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o default -F _scaling scaling
"""
# Zsh takes whole words. Files are left to its own completion, where nothing else fits.
ZSH = r"""_scaling() {
    local -a found
    found=("${(@f)$(scaling completion query "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    found=(${found:#})
    (( $#found )) || { _files; return }
    compadd -S '' -- ${(M)found:#*[=./]}
    compadd -- ${found:#*[=./]}
}
compdef _scaling scaling
"""
FISH = """function __scaling
    scaling completion query (commandline --cut-at-cursor | string collect)
end
complete --command scaling --arguments '(__scaling)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
HYDRA_FLAGS = ("-m", "--multirun", "--cfg", "--info", "--hydra-help")  # flags of `train` that argparse does not know


def candidates(line: str, options: Mapping[str, Any]) -> list[str]:
    """Words that may end a line; `options` holds each command's parser."""
    words = line.split()[1:]
    word = "" if line.endswith(" ") or not words else words.pop()
    if not words:
        return [name for name in options if name.startswith(word)]
    command = words[0]
    if command not in options:
        return []
    if word.startswith("-"):
        flags = re.findall(r"(?<![\w-])-[\w-]+", options[command].format_usage())
        own = HYDRA_FLAGS if command == "train" else ()
        return sorted({flag for flag in (*flags, "--help", *own) if flag.startswith(word)})
    if "verrides" not in options[command].format_usage():
        return []
    from scaling.config.completion import settings

    return settings([part for part in words[1:] if "=" in part and not part.startswith("-")], word)

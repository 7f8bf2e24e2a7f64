"""`usernet completion SHELL`: the script that makes a shell complete our commands."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash:  usernet completion bash > ~/.local/share/bash-completion/completions/usernet
    zsh:   usernet completion zsh > "${fpath[1]}/_usernet"
    fish:  usernet completion fish > ~/.config/fish/completions/usernet.fish
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    if complete is None:
        raise click.ClickException(f"click knows no completion for {shell}")
    root = context.find_root()
    completer = complete(root.command, {}, "usernet", "_USERNET_COMPLETE")
    click.echo(completer.source_template % completer.source_vars())

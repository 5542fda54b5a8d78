"""Directive ``command-help``: what ``cubeflow VERB --help`` prints, verb by verb, as the installed command says it."""

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cubeflow.cli import main

PROGRAM = "cubeflow"
WIDTH = 92


class CommandHelp(SphinxDirective):
    """The page of the group, then a section for each verb in the order of that page."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        settings = {**main.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
        group = click.Context(main, info_name=PROGRAM, **settings)
        verbs = [name for names in main.sections.values() for name in names]
        return [self.page(main.get_help(group)), *(self.section(group, name) for name in verbs)]

    def section(self, group: click.Context, name: str) -> nodes.section:
        """Make the section of a verb."""
        title = f"{PROGRAM} {name}"
        section = nodes.section(ids=[title.replace(" ", "-")], names=[title])
        section += nodes.title("", "", nodes.literal("", title))
        verb = main.commands[name]
        section += self.page(verb.get_help(click.Context(verb, group, name, **verb.context_settings)))
        return section

    def page(self, text: str) -> nodes.literal_block:
        """Make a block of text as the terminal shows it."""
        return nodes.literal_block(text, text, language="text")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

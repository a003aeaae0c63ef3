"""The templates of the pages. Everything put into them is escaped, and nothing may be undefined."""

from functools import cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from flawmap.drawing.colour import colour_table
from flawmap.report.thumbnails import data_uri


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("flawmap.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    environment.globals["colour_bar"] = np.broadcast_to(colour_table(), (8, 256, 3))
    return environment


def page_template(name: str) -> Template:
    """A template of the folder ``template/``."""
    return _environment().get_template(name)

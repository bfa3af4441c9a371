"""Templates, style and scripts of the pages in report_page/; report.py and model_card.py fill them."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from pipeline_assets.errors import InternalError

if TYPE_CHECKING:
    import jinja2

_FOLDER = files("pipeline_assets.research") / "report_page"


def template(name: str) -> "jinja2.Template":
    """Return a template of the folder; it escapes text, and refuses a name that it is not given."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(page_file), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {
        "sort_keys": True,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return environment.get_template(name)


@cache
def page_file(name: str) -> str:
    """Return the text of a file of the folder.

    Raises:
        InternalError: a script of the folder would end its own script element.
    """
    found = _FOLDER.joinpath(*name.split("/")).read_text(encoding="utf-8")
    if "</script" in found.lower() and name.endswith(".js"):
        raise InternalError(f"{name} would end its own script element. Take another build of it.")
    return found

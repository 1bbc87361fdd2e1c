"""The tables of the documents say what the settings are, and their commands what can be installed."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from peerpath import Settings
from support.printed import command
from turnrelay.settings.keys import KEYS

_GENERATOR = Path(__file__).parents[2] / "docs" / "generate.py"
_spec = importlib.util.spec_from_file_location("generate", _GENERATOR)
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


@pytest.mark.parametrize("name", generate.documents())
def test_tables_are_up_to_date(name):
    assert (generate.ROOT / name).read_text() == generate.with_tables(name), "run `make docs`"


def test_the_table_of_the_sdk_has_every_setting_with_its_default():
    text = (generate.ROOT / "client_sdk" / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\| ", text.partition("| setting | default |")[2], re.M))
    assert rows == {name: as_written(field.get_default()) for name, field in Settings.model_fields.items()}


def as_written(default):
    """The default as a person writes it; what is empty is not written."""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float | int | str) and default:
        return f"`{default:g}`" if isinstance(default, float | int) else f"`{default}`"
    if isinstance(default, tuple) and default and all(isinstance(each, int) for each in default):
        return f"`{default[0]}-{default[1]}`"
    return f"`{', '.join(default)}`" if isinstance(default, tuple) and default else ""


def test_the_sdk_is_installed_from_folders_and_with_extras_that_there_are():
    install = command("docs/first-chat.md", "pip install")
    for folder, extras in re.findall(r"\./(\w+)(?:\[([\w,]+)\])?", install):
        project = tomllib.loads((generate.ROOT / folder / "pyproject.toml").read_text())["project"]
        offered = project.get("optional-dependencies", {})
        assert set(filter(None, extras.split(","))) <= offered.keys()
    assert {"./stun", "'./client_sdk[cli,upnp]'"} <= set(install.split())


def test_what_coturns_options_are_called_here_exists():
    page = (generate.ROOT / "docs" / "from-coturn.md").read_text()
    rows = re.findall(r"^\| `.*?\| (.*) \|$", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`((?:limits\.)?[a-z]+_[a-z_]+)\b", row)}
    assert len(named) > 15
    assert named <= set(KEYS)
    options = re.findall(r"`(limits\.[a-z_]+)`", page + (generate.ROOT / "docs" / "operating.md").read_text())
    assert set(options) <= set(KEYS)


LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "deploy/*.md", "*/README.md")
    for page in sorted(generate.ROOT.glob(pattern))
]


def anchors(page: Path) -> set[str]:
    """What may stand behind the # of a link, as the usual hosts make it of a heading."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(generate.ROOT)))
def test_links_lead_somewhere(page):
    for file, anchor in LINK.findall(page.read_text()):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"

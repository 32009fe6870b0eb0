"""The site's hook: a link from a page to any file of the repository works in the site as it does among the files.

Pages lie where the repository has them and link to each other, and to files outside docs/, by relative paths. What a
page links to outside docs/ becomes a part of the site below `repository/`: Markdown as a page, anything else as it is.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[2]
OUTSIDE = "repository/"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)(?=[)#])")
NAMED_FILE = re.compile(r"^<!-- file: (\S+) -->\n```(\w+)$", re.M)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every page of docs/tasks into the navigation, in the order in which their table links to them."""
    folder = Path(config.docs_dir) / "tasks"
    table = (folder / "index.md").read_text(encoding="utf8")
    names = {path.name for path in folder.glob("*.md")} - {"index.md"}
    linked = [link for link in LINK.findall(table) if link in names]
    for entry in config.nav or []:
        if isinstance(entry, dict) and "Tasks" in entry:
            entry["Tasks"].extend(f"tasks/{name}" for name in dict.fromkeys([*linked, *sorted(names)]))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that pages link to, and those that these link to in turn."""
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        text = Path(page.abs_src_path or "").read_text(encoding="utf8")
        for target in _targets(page.src_uri, text):
            uri = _uri(target)
            if uri.startswith(OUTSIDE) and uri not in files.src_uris and (REPOSITORY / target).is_file():
                level = InclusionLevel.NOT_IN_NAV
                file = File.generated(config, uri, abs_src_path=str(REPOSITORY / target), inclusion=level)
                files.append(file)
                waiting += [file] * file.is_documentation_page()
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ to where the site has the file, and show the names of files."""
    source = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        uri = _uri(_target(source, link[1]))
        return posixpath.relpath(uri, posixpath.dirname(source) or ".") if uri in files.src_uris else link[1]

    return NAMED_FILE.sub(r'```\2 title="\1"', LINK.sub(moved, markdown))


def _targets(source: str, text: str) -> Iterator[str]:
    return (_target(source, link[1]) for link in LINK.finditer(text))


def _target(source: str, link: str) -> str:
    """Where in the repository a link of a page of the site leads."""
    own = _source(source) if source.startswith(OUTSIDE) else f"docs/{source}"
    return posixpath.normpath(PurePosixPath(own).parent.joinpath(link).as_posix())


def _source(uri: str) -> str:
    path = uri.removeprefix(OUTSIDE)
    return path if (REPOSITORY / path).is_file() else f"{path.removesuffix('.md')}/README.md"


def _uri(target: str) -> str:
    """Where the site has a file of the repository."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    # Not as README.md, which would be the index page of its folder and so of any section of the navigation.
    return OUTSIDE + re.sub(r"/README\.md$", ".md", target)

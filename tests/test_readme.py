"""The README and the guides: every block runs as printed, and the pictures show the run that the README makes."""

import re

import pytest

from tests import pages, pictures


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    """The folder in which the README ran, and the page with the output of that run."""
    folder = tmp_path_factory.mktemp("readme")
    return folder, pages.run("README.md", folder)


def test_readme_shows_what_its_blocks_print(readme):
    assert readme[1] == pages.as_text("README.md")


@pytest.mark.parametrize("page", [page for page in pages.PAGES if page != "README.md"])
def test_page_shows_what_its_blocks_print(page, tmp_path):
    assert pages.run(page, tmp_path) == pages.as_text(page)


def test_pictures_are_of_the_run_that_the_readme_makes(readme):
    drawn = pictures.pictures(readme[0] / pictures.RUN)
    assert drawn == {path.name: path.read_text() for path in pictures.FOLDER.iterdir()}
    assert all(len(content) < 60_000 for content in drawn.values())


def test_readme_is_short_and_begins_with_the_two_commands():
    text = pages.as_text("README.md")
    assert 120 <= text.count("\n") <= 150
    assert re.findall(r"^make \w+", text.split("```")[1], re.MULTILINE) == ["make demo", "make test"]


class TestPages:
    """What runs the blocks finds what is wrong with a page."""

    @staticmethod
    def run(text, folder):
        (folder / "page.md").write_text(text)
        return pages.run(str(folder / "page.md"), folder)

    def test_output_that_is_not_printed_is_replaced(self, tmp_path):
        right = "```python\nprint(1, 2)\n```\n\n```text\n1   2\n```\n\nThe end.\n"
        assert self.run(right, tmp_path) == right
        assert self.run(right.replace("1   2", "1 3"), tmp_path) == right.replace("1   2", "1 2")
        assert self.run(right.replace("1   2", "...2"), tmp_path) == right.replace("1   2", "...2")

    def test_blocks_share_names_and_files(self, tmp_path):
        read = "import pathlib\ntext = pathlib.Path('a.csv').read_text()"
        text = f"```csv a.csv\nx\n1\n```\n\n```python\n{read}\n```\n\n```python\nprint(text)\n```\n"
        page = text + "\n```text\nx\n1\n```\n"
        assert self.run(page, tmp_path) == page

    @pytest.mark.parametrize(
        "block",
        [
            "python\nassert 1 > 2",
            "sh\nriskcore audit nowhere",
            "sh\nmake nothing",
            'sh\npip install ".[nothing]"',
            "sh\nrm -r runs",
            "yaml\na: 1",
            "text\nno block before it",
        ],
    )
    def test_block_that_does_not_run_fails(self, block, tmp_path):
        page = f"```{block}\n```\n"
        with pytest.raises((AssertionError, ValueError)):
            self.run(page, tmp_path)

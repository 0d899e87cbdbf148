"""The reader of tutorials does what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tutorials import Tutorial

PAGE = """# A page

`data/one.txt`:

```yaml
one: 1
```

```bash
cat data/one.txt
ls ../vista-bench
```

```text
one: 1
… config
vista
```
"""


def test_files_are_written_and_commands_run_in_the_folder_of_the_tutorial(root: Path, tmp_path: Path) -> None:
    tutorial = Tutorial(root, PAGE, tmp_path)
    tutorial.follow()
    assert (tutorial.folder / "data/one.txt").read_text() == "one: 1\n"


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("… config\nvista", "vista\n… config", "not printed: … config"),
        ("ls ../vista-bench", "ls ../elsewhere", "elsewhere"),
        ("```yaml", "```", "not closed"),
    ],
)
def test_a_page_that_is_not_true_fails(root: Path, tmp_path: Path, was: str, becomes: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        Tutorial(root, PAGE.replace(was, becomes), tmp_path).follow()

"""A checkpoint's chat template is rendered in a sandbox: it writes text and can do nothing else."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from jinja2 import Environment, TemplateError

from tests.nano import checkpoint, query
from tests.safety.conftest import Trap
from vista import chat
from vista.engines.checkpoints import load_checkpoint, save_checkpoint
from vista.errors import VistaError

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.mkdir('MARK') }}",
    "{{ lipsum.__globals__['os'].mkdir('MARK') }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').mkdir('MARK') }}",
    "{{ raise_exception.__globals__['json'].codecs.builtins.open('MARK', 'w') }}",
    "{{ strftime_now.__globals__ }}",
    "{{ (messages | attr('append')).__self__.append(1) }}{{ messages.append(1) }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{{ ''|attr('__cla' ~ 'ss__')|attr('__mro__') }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}",
    "{% for i in range(1000000000) %}x{% endfor %}",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "nano"
    made = checkpoint("qwen2.5-vl")
    save_checkpoint(made.model, made.processor, folder)
    return folder


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_cannot_reach_what_lies_behind_the_objects_it_is_given(
    saved: Path, tmp_path: Path, trap: Trap, template: str
) -> None:
    folder = shutil.copytree(saved, tmp_path / "nano")
    (folder / "chat_template.jinja").write_text(template.replace("MARK", str(trap.mark)))
    said = ""
    with suppress(TemplateError, TypeError, OverflowError, VistaError):
        loaded = load_checkpoint(folder, device="cpu")
        said = chat.render(loaded.processor, chat.messages(query(0)))
    assert said == ""
    assert not trap.sprung


def test_without_the_sandbox_such_a_template_would_do_as_it_likes(trap: Trap) -> None:
    template = ESCAPES[2].replace("MARK", str(trap.mark))
    Environment().from_string(template).render()  # noqa: S701 - that is the point
    assert trap.sprung


def test_the_same_words_as_a_question_are_a_question(saved: Path) -> None:
    loaded = load_checkpoint(saved, device="cpu")
    for template in ESCAPES:
        asked = {**query(0), "instruction": template}
        assert template in chat.render(loaded.processor, chat.messages(asked))

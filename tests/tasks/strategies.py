"""Random scenes and questions about them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from vista.seeding import generator
from vista.testbed.questions import TEMPLATES, Question, Scene, ask, draw_scene, templates_of


@st.composite
def asked(draw: st.DrawFn) -> tuple[Scene, Question]:
    """A scene of any size and a question of any template that it can be asked, in either language."""
    rng = generator("test", draw(st.integers(0, 10**9)))
    scene = draw_scene(rng, draw(st.integers(2, 4)), draw(st.integers(2, 4)), uniform=0.2)
    families = {template.family for template in TEMPLATES.values()}
    family = draw(st.sampled_from(sorted(families)))
    template = draw(st.sampled_from(templates_of(family, len(scene.cells))))
    question = ask(template, scene, rng)
    return scene, replace(question, language=draw(st.sampled_from([None, "english"])))

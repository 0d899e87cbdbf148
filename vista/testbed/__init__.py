"""The testbed: questions about grids of digits whose every fact is known.

Shared by the stages: ``tasks`` asks the questions and paints the scenes, ``rollouts`` and
``curation`` need the truth for controls, ``analysis`` for what only a testbed can measure. Imports no stage.
"""

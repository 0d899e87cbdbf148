"""The truth about the testbed: scenes, questions, gold rationales, and the audit of any other.

Shared by the stages: ``tasks`` asks the questions and paints the scenes, ``rollouts`` and
``curation`` need the truth for controls, ``analysis`` for what only a testbed can measure. Pure.
"""

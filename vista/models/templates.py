"""Chat templates of the nano models: the structure that the real families use.

Stage ``models``; used by ``vista.models.nano``. Parts of a turn are written in the order in
which they are given, so an image may stand before or after the text.
"""

from __future__ import annotations

_TURNS = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- 'IMAGE' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- else -%}
{{- raise_exception('unknown content type: ' + part['type']) -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

QWEN = _TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
INTERNVL = _TURNS.replace("IMAGE", "<IMG_CONTEXT>\\n")

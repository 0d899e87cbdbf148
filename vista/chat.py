"""From a query to prompt tokens, and from response tokens to text.

Generic over model families: it uses only the processor's chat template and image token.
Every stage that shows a query to a model uses it, so that all show it in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import TemplateError
from PIL import Image

from vista.errors import MORE_MEMORY, VistaError, is_out_of_memory, lack
from vista.images import open_images
from vista.records import SCORED_BY_TASK, Row

if TYPE_CHECKING:
    from vista.config import Prompts

Order = Literal["original", "swapped"]
Message = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt: token ids, with what else the model needs.

    ``token_features`` hold one value per token (such as ``mm_token_type_ids``),
    ``image_features`` tensors whose first axis is patches or images (such as ``pixel_values``).
    """

    input_ids: list[int]
    token_features: dict[str, list[int]]
    image_features: dict[str, Any]
    text: str = ""  # what the template wrote, images not yet expanded
    images: int = 0
    open_images: Callable[[], list[Image.Image]] = list  # decodes the images once more
    query_id: str = ""  # for errors

    def __len__(self) -> int:
        """Number of prompt tokens."""
        return len(self.input_ids)


def messages(query: Mapping[str, Any], order: Order = "original") -> list[Message]:
    """The conversation that asks ``query``: a system turn, then image and instruction.

    Args:
        query: A row with ``system``, ``instruction`` and ``images``. To ask it with a hint or with
            solutions to look at, change the instruction (``vista.wording``).
        order: ``swapped`` puts the instruction before the image (paper: Sec. 3, step 2).
    """
    pictures: list[Message] = [{"type": "image", "text": None} for _ in query["images"]]
    words: list[Message] = [{"type": "text", "text": query["instruction"]}]
    content = pictures + words if order == "original" else words + pictures
    turns: list[Message] = [{"role": "user", "content": content}]
    if query["system"]:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": query["system"]}]})
    return turns


def prompted(query: Mapping[str, Any], prompts: Prompts) -> Row:
    """``query``, as a model with these ``prompts`` is asked it.

    What a task of lmms-eval asks stays as it is.

    The suffix becomes a part of the instruction. The model's own mark before answers goes with the query, as
    ``answer_mark``, to where answers are looked for (``vista.verdicts``).
    """
    changed = dict(query)
    if query.get("answer_type") == SCORED_BY_TASK:
        return changed
    if prompts.system is not None:
        changed["system"] = prompts.system or None
    if prompts.suffix:
        between = "" if prompts.suffix[0].isspace() else "\n"
        changed["instruction"] = f"{query['instruction']}{between}{prompts.suffix}"
    if prompts.answer_mark is not None:
        changed["answer_mark"] = prompts.answer_mark
    return changed


def check_prompts(processor: Any, prompts: Prompts, model: str) -> None:
    """Refuse prompts that a model would not be shown, or could not answer, as they are written.

    Args:
        processor: The model's.
        prompts: Those of its entry.
        model: Named in errors.

    Raises:
        VistaError: a text spells a special token or has words that the tokenizer has no token for, or the
            chat template leaves the system turn out.
    """
    special = forbidden_tokens(processor, [])
    for name, text in prompts.model_dump(exclude_none=True).items():
        where = f"model {model}: prompts.{name}"
        if (token := spelled(processor, text, special)) is not None:
            raise VistaError(
                f"{where} spells {token!r}, which the tokenizer reads as a special "
                "token and leaves out of responses; use plain words (the chat template adds its own tokens)"
            )
        if words := unknown_words(processor.tokenizer, text):
            raise VistaError(
                f"{where}: the tokenizer does not know {', '.join(map(repr, words))}; write it in words that "
                "it knows"
            )
    if prompts.system:
        asked = {"system": prompts.system, "instruction": "x", "images": []}
        if prompts.system.strip() not in try_render(processor, messages(asked), generation_prompt=True):
            raise VistaError(
                f"model {model}: prompts.system: its chat template leaves the system turn out; move the text "
                "to prompts.suffix"
            )


def unknown_words(tokenizer: Any, text: str) -> list[str]:
    """The words of ``text`` that a tokenizer has no token for; most tokenizers know every text."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return []
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [
        word
        for word in (text.split() if unknown in ids else [])
        if unknown in tokenizer(word, add_special_tokens=False)["input_ids"]
    ]


def reply(text: str) -> list[Message]:
    """An assistant turn that says ``text``."""
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def _template_parts(turns: Sequence[Message]) -> list[Message]:
    """The turns without the empty ``text`` that parquet puts beside images."""
    cleaned = []
    for turn in turns:
        parts = [{key: value for key, value in part.items() if value is not None} for part in turn["content"]]
        cleaned.append({"role": turn["role"], "content": parts})
    return cleaned


def render(processor: Any, turns: Sequence[Message], generation_prompt: bool = True) -> str:
    """The chat template's text, image placeholders not yet expanded, parts in the order given.

    Some templates write all images of a turn before its text, whatever the order of its parts.
    For them, what they write for an image is put into the text, where the image belongs.

    Raises:
        VistaError: the processor has no chat template.
    """
    if not getattr(processor, "chat_template", None):
        raise VistaError(
            f"{type(processor).__name__} has no chat template; "
            "add chat_template.jinja to the checkpoint folder"
        )
    text = _template_text(processor, turns, generation_prompt)
    if any(_images_first(turn) != turn for turn in turns):
        sorted_text = _template_text(processor, [_images_first(turn) for turn in turns], generation_prompt)
        if text == sorted_text:
            written = [_with_written_images(processor, turn) for turn in turns]
            text = _template_text(processor, written, generation_prompt)
    return text


def _template_text(processor: Any, turns: Sequence[Message], generation_prompt: bool) -> str:
    """What the chat template makes of ``turns``."""
    text: str = processor.apply_chat_template(
        _template_parts(turns), tokenize=False, add_generation_prompt=generation_prompt
    )
    return text


def _images_first(turn: Message) -> Message:
    """``turn`` with its images before everything else."""
    return {**turn, "content": sorted(turn["content"], key=lambda part: part["type"] != "image")}


def _with_written_images(processor: Any, turn: Message) -> Message:
    """``turn`` as one text, in which each image is what the template would write for it."""
    word: Message = {"type": "text", "text": "x"}
    bare, shown = (
        _template_text(processor, [{"role": "user", "content": content}], generation_prompt=False)
        for content in ([word], [{"type": "image"}, word])
    )
    start = next(at for at, (one, other) in enumerate(zip(bare, shown, strict=False)) if one != other)
    written = shown[start : start + len(shown) - len(bare)]
    text = "".join(written if part["type"] == "image" else part["text"] for part in turn["content"])
    return {**turn, "content": [{"type": "text", "text": text}]}


def begins_itself(processor: Any, text: str) -> bool:
    """Whether the template has written the begin token, so that the tokenizer must not add one."""
    begin: str | None = getattr(processor.tokenizer, "bos_token", None)
    return begin is not None and text.startswith(begin)


Conversation = tuple[Sequence[Message], Sequence[Image.Image]]  # turns, and the images shown in them
TOGETHER = 64  # prompts that the processor sees at once


def encode(processor: Any, turns: Sequence[Message], images: Sequence[Image.Image]) -> Prompt:
    """Render ``turns``, expand the images and tokenise."""
    (prompt,) = _encode_together(processor, [render(processor, turns)], [images])
    return prompt


def encode_all(processor: Any, conversations: Sequence[Conversation]) -> list[Prompt]:
    """``encode`` each, several times faster: the processor sees images of the same sizes together."""
    texts = [render(processor, turns) for turns, _ in conversations]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, (text, (_, images)) in enumerate(zip(texts, conversations, strict=True)):
        key = (begins_itself(processor, text), *(image.size for image in images))
        groups.setdefault(key, []).append(index)
    prompts: dict[int, Prompt] = {}
    for group in groups.values():
        for start in range(0, len(group), TOGETHER):
            members = group[start : start + TOGETHER]
            shown = [conversations[index][1] for index in members]
            try:
                made = _encode_together(processor, [texts[index] for index in members], shown)
            except _InseparableError:
                made = [encode(processor, *conversations[index]) for index in members]
            prompts |= dict(zip(members, made, strict=True))
    return [prompts[index] for index in range(len(conversations))]


class _InseparableError(Exception):
    """The processor's outputs for several prompts cannot be told apart."""


def _encode_together(
    processor: Any, texts: Sequence[str], pictures: Sequence[Sequence[Image.Image]]
) -> list[Prompt]:
    """Prompts from rendered texts that begin alike, with images of the same sizes.

    Raises:
        _InseparableError: there are several, and the tokenizer cannot pad or the processor's image
            features are not as many for each.
    """
    count = len(texts)
    options: dict[str, Any] = {}
    if begins_itself(processor, texts[0]):
        options["add_special_tokens"] = False
    if count > 1:
        if processor.tokenizer.pad_token is None:
            raise _InseparableError
        options["padding"] = True
    images = [list(shown) for shown in pictures] if pictures[0] else None
    encoded = processor(text=list(texts), images=images, return_tensors="pt", **options)
    ids = encoded.pop("input_ids")
    mask = encoded.pop("attention_mask", None)
    real = [row.bool() for row in mask] if mask is not None else [slice(None)] * count
    of_tokens = {name: value for name, value in encoded.items() if value.shape == ids.shape}
    of_images = {name: value for name, value in encoded.items() if name not in of_tokens}
    # Images of the same sizes have as many patches each.
    if any(len(value) % count for value in of_images.values()):
        raise _InseparableError
    parts = {name: value.chunk(count) for name, value in of_images.items()}
    return [
        Prompt(
            ids[row][real[row]].tolist(),
            {name: value[row][real[row]].tolist() for name, value in of_tokens.items()},
            {name: value[row] for name, value in parts.items()},
            texts[row],
            len(pictures[row]),
        )
        for row in range(count)
    ]


def encode_query(processor: Any, query: Mapping[str, Any], order: Order = "original") -> Prompt:
    """``encode`` the prompt that asks ``query``."""
    (prompt,) = encode_queries(processor, [query], order)
    return prompt


def encode_queries(
    processor: Any, queries: Sequence[Mapping[str, Any]], order: Order = "original"
) -> list[Prompt]:
    """``encode_all`` for the prompts that ask ``queries``.

    Raises:
        VistaError: names the query that the processor refuses.
    """
    asked = [(messages(query, order), open_images(query)) for query in queries]
    prompts = encode_named(processor, [query["query_id"] for query in queries], asked)
    return [
        replace(prompt, open_images=partial(open_images, query), query_id=query["query_id"])
        for prompt, query in zip(prompts, queries, strict=True)
    ]


# Such as an image whose sides are too unlike, a second image token, a turn that the template does not have.
REFUSALS = (ValueError, TemplateError)


def encode_named(
    processor: Any, query_ids: Sequence[str], conversations: Sequence[Conversation]
) -> list[Prompt]:
    """``encode_all`` for conversations that ask the queries of these ids.

    Raises:
        VistaError: names the query that the processor refuses, or the largest one if memory runs out.
    """
    try:
        return encode_all(processor, conversations)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        pixels, query_id = max(
            (sum(image.width * image.height for image in images), query_id)
            for query_id, (_, images) in zip(query_ids, conversations, strict=True)
        )
        raise VistaError(
            f"query {query_id!r}: out of memory in the processor, beside {len(query_ids) - 1} smaller "
            f"ones ({pixels:,} pixels; {lack(error)}); lower the model's max_pixels, or {MORE_MEMORY}"
        ) from error
    except REFUSALS as error:
        for query_id, conversation in zip(query_ids, conversations, strict=True):
            _check_encodes(processor, query_id, conversation)
        raise VistaError(f"the processor refuses the queries: {error}; make them again") from error


def _check_encodes(processor: Any, query_id: str, conversation: Conversation) -> None:
    """Raise an error that names the query that the processor refuses."""
    try:
        encode(processor, *conversation)
    except REFUSALS as error:
        sizes = ", ".join(f"{image.width}×{image.height}" for image in conversation[1])
        raise VistaError(
            f"query {query_id!r}: the processor refuses its prompt or its image ({sizes}): {error}; "
            "correct or remove the query"
        ) from error


def template_ids(processor: Any, prompt: Prompt) -> list[int]:
    """Tokens of a prompt whose images are not expanded: what vLLM takes, which expands them itself."""
    special = not begins_itself(processor, prompt.text)
    ids: list[int] = processor.tokenizer(prompt.text, add_special_tokens=special)["input_ids"]
    return ids


def try_render(processor: Any, turns: Sequence[Message], generation_prompt: bool = False) -> str:
    """``render``, or nothing where the template refuses such turns."""
    try:
        return render(processor, turns, generation_prompt)
    except TemplateError:
        return ""


def end_tokens(model: Any, processor: Any) -> list[int]:
    """Ids that end a response; the first is the one that training appends.

    The first is the one with which the chat template closes an assistant's turn. It is the tokenizer's
    end-of-sequence token in most families, but not in all.
    """
    ids = [processor.tokenizer.eos_token_id]
    declared = model.generation_config.eos_token_id
    if declared is not None:
        ids += declared if isinstance(declared, list) else [declared]
    ends = list(dict.fromkeys(token for token in ids if token is not None))
    closing = _closing_tokens(processor)
    leads = next((token for token in closing if token in ends), None)
    return ends if leads is None else [leads, *(token for token in ends if token != leads)]


def _closing_tokens(processor: Any) -> list[int]:
    """Tokens that the template writes after what the assistant says."""
    asked: Message = {"role": "user", "content": [{"type": "text", "text": "x"}]}
    text = try_render(processor, [asked, *reply("y")])
    ids: list[int] = processor.tokenizer(text[text.rfind("y") + 1 :], add_special_tokens=False)["input_ids"]
    return ids


def forbidden_tokens(processor: Any, ends: Sequence[int], placeholders: Sequence[int] = ()) -> list[int]:
    """Special tokens that a response must not contain: image placeholders, roles, padding.

    A response with a placeholder in it can be neither scored nor trained on, since image tokens
    and image features would not match.

    Args:
        processor: Whose tokenizer says which tokens are special.
        ends: Tokens that end a response, which are allowed.
        placeholders: Tokens that the model's config names, special if they are not ordinary words.
    """
    tokenizer = processor.tokenizer
    special = set(tokenizer.all_special_ids)
    added = tokenizer.added_tokens_decoder
    special |= {token for token in added if added[token].special or token in placeholders}
    return sorted(special - set(ends))


def gold_ids(processor: Any, text: str) -> list[int]:
    """Tokens of a response that a person wrote, without the end token."""
    ids: list[int] = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def spelled(processor: Any, text: str, special: Collection[int]) -> str | None:
    """The first of the ``special`` tokens that a text spells; ``None`` if it spells none.

    A tokenizer reads such words as the tokens themselves: as the place of an image, or as the end of a
    turn. An unknown word does not spell the token for unknown ones, nor a letter that of its byte.
    """
    found = [token for token in gold_ids(processor, text) if token in special]
    names = map(processor.tokenizer.convert_ids_to_tokens, found)
    return next((name for name in names if name in text), None)


def decode(processor: Any, token_ids: Sequence[int]) -> str:
    """The text of response tokens."""
    text: str = processor.tokenizer.decode(list(token_ids), skip_special_tokens=True)
    return text.strip()


def check_fits(row: Row, prompt_len: int, response_len: int, context: int | None) -> None:
    """Refuse a prompt that does not fit the model's context together with its response."""
    if context is not None and prompt_len + response_len > context:
        raise VistaError(
            f"query {row['query_id']!r}: the prompt has {prompt_len} tokens and the response up to "
            f"{response_len}, but the model's context is {context}; shorten the instruction, "
            "shrink the image, or lower max_new_tokens"
        )

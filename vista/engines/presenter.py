"""A checkpoint's processor together with how queries are shown to its model: loaded, checked, applied.

For every stage that encodes a prompt: ``vista.chat`` takes it instead of the processor, so
that rollouts, scoring, training and evaluation show a model the same pixels and the same text.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ValidationError
from transformers import AutoProcessor
from transformers.utils.chat_template_utils import _get_template_variables

from vista import chat
from vista.config import Loading
from vista.engines.folders import ANEW, blaming, check_code
from vista.errors import VistaError, is_out_of_memory
from vista.memory import at_most
from vista.records import write_json

LOADING_FILE = "loading.json"
# What a processor may take for an image of so many pixels, bytes: enough for 80 million pixels as floats.
MOST, TRIED = 1_000_000_000, (64, 64)
SIZES = ("size", "crop_size", "pad_size", "min_pixels", "min_patches")  # what can make it take more
# Settings that are no pixels: the most of each. Some processors try all pairs of numbers of tiles, and write
# the image's tokens out as text, of which the tokenizer aborts the process if it does not fit.
TILES = ("max_patches", "max_tiles", "max_num_tiles", "max_image_tiles", "max_crops", "max_slice_nums")
COUNTS = dict.fromkeys(TILES, 5_000) | {"image_seq_length": 100_000, "num_image_tokens": 100_000}


class Presenter:
    """What ``vista.chat`` needs from a processor, with the options of ``Loading`` applied.

    Args:
        processor: As transformers loads it.
        loading: How queries are shown; the defaults change nothing.
        where: Names the checkpoint in errors.

    Raises:
        VistaError: the processor or its chat template knows no such option.
    """

    def __init__(self, processor: Any, loading: Loading | None = None, where: str = "the checkpoint") -> None:
        self.inner = processor
        self.loading = loading or Loading()
        self.tokenizer = processor.tokenizer
        _check_options(processor, self.loading, where)

    @property
    def image_processor(self) -> Any:
        """The part of the processor that sees images."""
        return self.inner.image_processor

    @property
    def chat_template(self) -> Any:
        """The template, or several by name; ``None`` if the processor has none."""
        return getattr(self.inner, "chat_template", None)

    def apply_chat_template(self, turns: Any, **options: Any) -> Any:
        """The processor's own, with the checkpoint's variables."""
        return self.inner.apply_chat_template(turns, **self.loading.chat, **options)

    def __call__(self, *, text: list[str], images: list[list[Image.Image]] | None, **options: Any) -> Any:
        """The processor's own, on images of at most ``max_pixels``, with the checkpoint's options."""
        if images is not None:
            images = [self.shrink(pictures) for pictures in images]
            if self.loading.processor:
                options["images_kwargs"] = self.loading.processor
        return self.inner(text=text, images=images, **options)

    def shrink(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """``images``, those that have more than ``max_pixels`` pixels scaled down."""
        limit = self.loading.max_pixels
        return [image if limit is None else shrunk(image, limit) for image in images]

    def save_pretrained(self, folder: Path) -> None:
        """Save the processor as it is, and the options beside it if there are any."""
        self.inner.save_pretrained(folder)
        if self.loading != Loading():
            write_loading(folder, self.loading)


def _check_options(processor: Any, loading: Loading, where: str) -> None:
    """Refuse options that transformers would ignore with a warning at most."""
    if loading.chat:
        known = _template_variables(processor)
        unknown = sorted(set(loading.chat) - known)
        if unknown:
            raise VistaError(
                f"{where}: chat: the chat template has no variable {', '.join(unknown)}; "
                f"it has {', '.join(sorted(known)) or 'none'}"
            )
    if loading.processor:
        known = set(processor.image_processor.valid_kwargs.__annotations__)
        unknown = sorted(set(loading.processor) - known)
        if unknown:
            raise VistaError(
                f"{where}: processor: {type(processor.image_processor).__name__} has no option "
                f"{', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )


def _template_variables(processor: Any) -> set[str]:
    """Names that the chat template reads and that are not handed to it anyway."""
    template = processor.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    found: set[str] = set(_get_template_variables(template))
    return found - {"messages", "add_generation_prompt", "raise_exception", "strftime_now"}


def shrunk(image: Image.Image, max_pixels: int) -> Image.Image:
    """``image`` with at most ``max_pixels`` pixels: bicubic, the ratio of its sides kept."""
    width, height = image.size
    if width * height <= max_pixels:
        return image
    factor = math.sqrt(max_pixels / (width * height))
    # A side that rounds to nothing keeps one pixel; the other one is then cut to the limit.
    width, height = max(1, math.floor(width * factor)), max(1, math.floor(height * factor))
    return image.resize((min(width, max_pixels), min(height, max_pixels)), Image.Resampling.BICUBIC)


def write_loading(folder: Path, loading: Loading) -> None:
    """Write ``loading.json`` into a checkpoint folder; a link of that name is replaced."""
    write_json(folder / LOADING_FILE, loading.model_dump(mode="json"))


def read_loading(folder: Path) -> Loading:
    """How to load the checkpoint in ``folder``; defaults where it does not say.

    Raises:
        VistaError: its ``loading.json`` is malformed.
    """
    path = folder / LOADING_FILE
    if not path.is_file():
        return Loading()
    try:
        return Loading.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise VistaError(f"{path}: cannot be read ({error}); make the base checkpoint again") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"{part}: " for part in first["loc"])
        raise VistaError(f"{path}: {field}{first['msg']}; make the base checkpoint again") from error


def load_processor(
    folder: Path, loading: Loading | None = None, *, trust_remote_code: bool = False
) -> Presenter:
    """The processor of a checkpoint folder, without its model and without the network.

    Args:
        folder: The checkpoint.
        loading: Its options; default: those of its ``loading.json``.
        trust_remote_code: Run code that the checkpoint brings.

    Raises:
        VistaError: it is missing, takes no images, has no chat template, or lacks an option; or the
            checkpoint brings code that may not run.
    """
    check_code(folder, trust_remote_code)
    try:
        processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # somebody else's files may make a library raise anything
        raise VistaError(_why_no_processor(folder, error)) from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise VistaError(
            f"{folder}: {type(processor).__name__} is not a processor of text and images; "
            "use the checkpoint of a vision-language model"
        )
    if not getattr(processor, "chat_template", None):
        raise VistaError(f"{folder}: no chat template; add chat_template.jinja to the folder")
    with blaming(folder, "the processor cannot be used", "save the model's processor again"):
        presenter = Presenter(processor, read_loading(folder) if loading is None else loading, str(folder))
    _check_sizes(presenter, folder)
    return presenter


def _check_sizes(presenter: Presenter, folder: Path) -> None:
    """Refuse a processor that makes something enormous of a small image, before a job pays for it.

    It is tried, with little memory, since families differ in what their settings mean: a ``shortest_edge`` is
    the length of a side in one and the pixels of the whole image in another.

    Raises:
        VistaError: names the file and the settings.
    """
    images, options = presenter.image_processor, presenter.loading.processor
    everything = [*vars(presenter.inner).items(), *vars(images).items(), *options.items()]
    asked = {name: value for name, value in everything if value is not None}
    counts = COUNTS if "min_patches" in asked else {**COUNTS, "max_patches": math.inf}  # else not of tiles
    found = [
        f"{name}: {asked[name]} is more than {most:,}"
        for name, most in counts.items()
        if isinstance(asked.get(name), int | float) and asked[name] > most
    ]
    if not found and _takes_too_much(images, options):
        sizes = [f"{name}: {_shown(asked[name])}" for name in SIZES if name in asked]
        tried = "×".join(map(str, TRIED))
        found = [f"an image of {tried} pixels takes more than {MOST / 1e9:.0f} GB ({'; '.join(sizes)})"]
    if found:
        names = ("processor_config.json", "preprocessor_config.json")
        file = next(filter(Path.is_file, (folder / name for name in names)), folder)
        raise VistaError(f"{file}: {'; '.join(found)}; take the file that belongs to the model")


def _takes_too_much(images: Any, options: dict[str, Any]) -> bool:
    with at_most(MOST):
        try:
            images([Image.new("RGB", TRIED)], return_tensors="pt", **options)
        except Exception as error:  # others are told of where a picture of the data is shown
            return is_out_of_memory(error)
    return False


def _shown(value: Any) -> Any:
    """Sizes as they are in the file."""
    known = vars(value) if hasattr(value, "__dict__") else value
    return {name: part for name, part in known.items() if part} if isinstance(known, dict) else known


def _why_no_processor(folder: Path, error: Exception) -> str:
    """Which file keeps a processor from being loaded; else what transformers said."""
    for file in sorted(folder.glob("*.json")):
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as broken:
            return f"{file}: not valid JSON ({broken}), so the processor cannot be loaded; {ANEW}"
    said = " ".join(str(error).split()) or type(error).__name__
    return f"{folder}: the processor cannot be loaded: {said[:500]}; save the model's processor again"


# Lines of Python that a chat template may take for one question; they take some hundred.
MOST_STEPS = 2_000_000


@contextmanager
def few_steps(folder: Path) -> Iterator[None]:
    """Refuse a chat template that would not come to an end; counted in steps, so that no clock decides.

    Raises:
        VistaError: names the folder.
    """
    left = MOST_STEPS

    def count(*_: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise VistaError(
                f"{folder}: the chat template does not come to an end; correct chat_template.jinja"
            )
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)


def check_image(processor: Presenter, folder: Path) -> None:
    """Refuse a processor that cannot show an image, or makes no numbers of it.

    Raises:
        VistaError: names the folder.
    """
    image = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    turns = [
        {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "question"}]}
    ]
    with blaming(folder, "the processor cannot show an image", "save the model's processor again"):
        shown = chat.encode(processor, turns, [image])
        wrong = [name for name, value in shown.image_features.items() if not bool(value.isfinite().all())]
    if wrong:
        raise VistaError(f"{folder}: the processor makes no finite {wrong[0]} of an image; save it again")


def check_template(processor: Any, folder: Path) -> None:
    """Refuse a chat template that cannot be used, or that leaves out the image or the question.

    Raises:
        VistaError: names the folder.
    """
    text, image = {"type": "text", "text": "question"}, {"type": "image", "text": None}
    bare, shown = ([{"role": "user", "content": content}] for content in ([text], [image, text]))
    with (
        blaming(folder, "the chat template cannot be used", "correct chat_template.jinja"),
        few_steps(folder),
    ):
        written = chat.render(processor, shown)
        without = chat.render(processor, bare)
    if "question" not in written or written == without:
        what = "the question" if "question" not in written else "the image"
        raise VistaError(f"{folder}: the chat template leaves out {what}; correct chat_template.jinja")

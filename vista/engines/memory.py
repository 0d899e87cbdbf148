"""Out of memory: how it is told from other errors, and how a batch is halved until it fits.

Serves every stage that runs a model, and the command line. Free of torch until memory is given back.
(accelerate has a list of messages too. It lacks Python's own error, C++'s and cuBLAS's, and takes an
operation that cuDNN does not support for a lack of memory.)
"""

from __future__ import annotations

import errno
import gc
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tqdm import tqdm

from vista.chat import Prompt
from vista.errors import VistaError

Result = TypeVar("Result")

# What libraries say when an allocation has failed.
MESSAGES = (
    " out of memory",  # CUDA, HIP, XPU, MPS
    "DefaultCPUAllocator: can't allocate memory",  # torch on processors
    "DefaultCPUAllocator: not enough memory",  # the same on Windows
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",  # newer cuDNN
    "HOST_ALLOCATION_FAILED",
    "std::bad_alloc",
)
# What oneDNN says then, and seldom for another reason: it counts where memory is limited (ulimit -v).
ONEDNN = ("could not create a primitive", "could not create a memory", "could not execute a primitive")
MORE_MEMORY = "give the job more memory"
FEWER_TOKENS = f"lower the model's max_pixels or the method's max_new_tokens, or {MORE_MEMORY}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory could not be had, on a GPU or in the machine."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    messages = (*MESSAGES, *ONEDNN) if limited else MESSAGES
    return isinstance(error, RuntimeError) and any(text in str(error) for text in messages)


def said(error: BaseException) -> str:
    """What an error says, in one line of bounded length."""
    lines = str(error).strip().splitlines()
    return (lines[0][:200] if lines else "") or type(error).__name__


def free_memory() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def names_of(prompts: Iterable[Prompt]) -> list[str]:
    """What errors call prompts: by their queries, where these are known."""
    return [f"query {prompt.query_id!r}" if prompt.query_id else "" for prompt in prompts]


class BatchSize:
    """How many sequences go through a model together; halved where memory runs out, for the rest of a job.

    Args:
        size: To begin with.
        doing: What messages say was being done, such as ``sampling``.
        remedies: What a user can do when not even one fits.
        free: Gives up memory that the caller keeps for later.
        whole: Sizes divide it; default: any size will do.
    """

    def __init__(
        self,
        size: int,
        doing: str,
        remedies: str = FEWER_TOKENS,
        free: Callable[[], None] = lambda: None,
        whole: int | None = None,
    ) -> None:
        self.size = size
        self.doing = doing
        self.remedies = remedies
        self.free = free
        self.whole = whole
        self.failed: list[int] = []  # sizes that did not fit
        self._names: Sequence[str] = ()

    def trying(self, names: Sequence[str]) -> None:
        """Note what goes through the model next: the name of a query or a run for each sequence."""
        self._names = names

    def until_it_fits(self, work: Callable[[], Result]) -> Result:
        """``work()``; where memory runs out, again with half the size, until it does not.

        Args:
            work: Reads ``size``, calls ``trying`` before each attempt, keeps what is done outside of
                itself, and does only what is not done yet when it is called again.

        Raises:
            VistaError: there is not enough memory for one alone.
        """
        while True:
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                what = said(error)
            # Not sooner: while the error is at hand, so is all that its frames hold.
            self.free()
            free_memory()
            self.halve(what)

    def halve(self, what: str) -> None:
        """Go down to half of what was tried, and say so.

        Args:
            what: What the error said.

        Raises:
            VistaError: it was one alone.
        """
        self.failed.append(self.size)
        whose = f"{self._subject()}: out of memory while {self.doing}"
        if self.size == 1:
            sizes = ", ".join(map(str, self.failed))
            raise VistaError(f"{whose}, even one at a time (tried {sizes} at once; {what}); {self.remedies}")
        tried = len(self._names)
        self.size = self._half(tried if 1 < tried < self.size else self.size)
        tqdm.write(f"{whose} {tried} at once ({what}); going on with {self.size}", file=sys.stderr)

    def _half(self, size: int) -> int:
        half = size // 2
        while self.whole is not None and self.whole % half:
            half -= 1
        return half

    def _subject(self) -> str:
        named = [name for name in dict.fromkeys(self._names) if name]
        return named[0] if named else "this job"

"""``nki.experimental``: loops under the name they had before ``nki.language`` took them over."""

from trainshed.nki.language.loops import fori_loop, while_loop

__all__ = ["fori_loop", "while_loop"]

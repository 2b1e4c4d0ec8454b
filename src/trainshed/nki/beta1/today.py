"""Today's instructions and language, which Beta 1's are made of (their exports are computed, so untyped here)."""

from __future__ import annotations

from typing import Any

import trainshed.nki.isa as _isa
import trainshed.nki.language as _language

nisa: Any = _isa
nl: Any = _language

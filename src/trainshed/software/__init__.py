"""Software as data: training frameworks and serving engines by version, each loss and host cost a sourced constant."""

from trainshed.software.catalogue import Software
from trainshed.software.schema import Engine, Framework, Package

__all__ = ["Engine", "Framework", "Package", "Software"]

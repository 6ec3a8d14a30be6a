"""Importers: published question sets, from a user's own files, into suites."""

from mentor_gym.importers.qa import Imported, import_qa

__all__ = ["Imported", "import_qa"]

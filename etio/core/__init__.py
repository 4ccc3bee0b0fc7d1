"""Nouns and decisions. Imports nothing of ours; touches no file, clock or thread."""

"""Tuning knowledge: one Markdown file per knob, and the code that applies a card to this host.

The folder is listed; a new card needs no other edit. Nothing here writes to the host: a card ends as text for a person.
"""

from rca.cards.card import Card, load_cards, parse_card
from rca.cards.suggest import suggest

__all__ = ["Card", "load_cards", "parse_card", "suggest"]

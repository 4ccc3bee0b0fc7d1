"""etio: from aetiology, the study of causes. A daemon that says why a Linux host is slow."""

__version__ = "0.1.0"

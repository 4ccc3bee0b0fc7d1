"""Files of a made-up host, and a reading as a dictionary, for tests of collectors."""

def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def values(reading):
    return {s.key: float(v) for s, v in zip(reading.series, reading.values, strict=True)}

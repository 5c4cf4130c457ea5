"""Coverage-guided fuzzing of one reader, on request: what `test_fuzz_readers` damages at random, guided by what it reaches.

    pip install atheris
    python tests/guided_fuzz.py mat5 -max_total_time=60

Begins from valid files. Only our own errors may come out; more than 5 s or 1 GiB beyond the start ends it with the file kept.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["gan3d_eval", "gan3d_model", "pyfive"]):
    import test_fuzz_readers as readers

from gan3d_eval.files import Gan3dError


def main(name: str, options: list[str]) -> None:
    if name not in readers.FORMATS:
        sys.exit(f"no format {name}; there are {', '.join(readers.FORMATS)}")
    folder = Path(tempfile.mkdtemp(prefix="gan3d-fuzz-"))
    parts, reader = readers.sources(folder)[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for i, (inner, pack) in enumerate(parts):
        (corpus / str(i)).write_bytes(pack(inner))

    def one(data: bytes) -> None:
        with contextlib.suppress(Gan3dError):
            reader(data)

    limit = 1024 + readers.resident("VmRSS") // 2**20
    atheris.Setup(
        [sys.argv[0], "-timeout=5", f"-rss_limit_mb={limit}", f"-artifact_prefix={folder}/", *options, str(corpus)], one
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:])
